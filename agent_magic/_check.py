"""What a person wrote about an agent, checked: settings, or one sentence with place, key and right value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec

from agent_magic._local import model_name
from agent_magic._modes import MODES
from agent_magic._policy import Price
from agent_magic._settings import AgentConfig, check_values
from agent_magic.errors import ConfigError

__all__ = [
    "SETTABLE",
    "check_names",
    "checked_agent",
    "checked_value",
    "local_defaults",
    "nearest",
    "read_number",
    "written",
]

TYPES = {field.name: field.type for field in msgspec.structs.fields(AgentConfig) if field.name != "embedded"}
SETTABLE = tuple(TYPES)
KINDS = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    dict: "a table",
    Price: "a table of two numbers",
}
EXAMPLES = {
    "protocol": '"runagent"',
    "agent": '"advanced"',
    "base_url": '"https://api.example.com"',
    "gguf": '"~/models/small.gguf"',
    "key_env": '"YDC_API_KEY"',
    "auth": '"bearer"',
    "parameters": '{ verbosity = "high" }',
    "headers": '{ X-Team = "blue" }',
    "price": "{ input = 3.0, output = 15.0 }",
    "verify": '"ca.pem"',
    "max_time": "600",
    "max_cost": "0.5",
}
# Their values are the person's secrets, or may be what was meant to be one.
UNQUOTED = {"headers", "key_env", "base_url", "parameters"}
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", re.IGNORECASE)
LONGEST_SHOWN = 40


def checked_agent(where: str, name: str, table: object) -> AgentConfig:
    """The agent `name` that `table` describes in the file, or the like, `where`. Raises `ConfigError`."""
    place = f"agents.{name}"
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: {place} is a table; write [{place}].")
    check_names(f"{where}: ", f"{place}.", table, SETTABLE)
    if "protocol" not in table and "gguf" not in table:
        raise ConfigError(f'{where}: {place} has no protocol; name one, such as protocol = "runagent".')
    values = {key: _converted(f"{where}: {place}.{key}", key, value) for key, value in table.items()}
    config = AgentConfig(**local_defaults(values) | values)
    try:
        check_values(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {place}: {error}") from None
    return config


def local_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What holds of an agent that names a model's file, where nobody says otherwise; nothing of another."""
    gguf = values.get("gguf")
    return {"protocol": "openai", "agent": model_name(gguf)} if isinstance(gguf, str) else {}


def checked_value(label: str, name: str, value: object) -> Any:
    """One setting's value, by itself; `label` is what the person calls it. Raises `ConfigError`."""
    converted = _converted(label, name, value)
    alone = AgentConfig(**({"price": Price(0, 0)} | {name: converted}))
    try:
        check_values(alone)
    except ConfigError as error:
        raise ConfigError(f"{label}: {error}") from None
    return converted


# What other tools call it.
OTHER_NAMES = {"model": "agent", "url": "base_url", "endpoint": "base_url", "api_key": "key_env", "key": "key_env"}


def check_names(where: str, prefix: str, table: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigError` with the nearest name where `table` has one that is not `known`."""
    known = tuple(known)
    for name in table:
        if name not in known:
            hint = OTHER_NAMES.get(name) if OTHER_NAMES.get(name) in known else None
            meant = nearest(name, known) if hint is None else f"did you mean {hint!r}?"
            raise ConfigError(f"{where}there is no setting {prefix}{name}; {meant}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The name that was meant, or all that there are."""
    near = get_close_matches(str(name), known := list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}."


def read_number(text: str) -> float | str:
    """The number that `text` writes; where it writes none, `text`, for whoever checks it to refuse."""
    if not NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() and len(text) < LONGEST_SHOWN else float(text)


def written(value: object) -> str:
    """`value` as a settings file has it, where that is short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        said = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        said = type(value).__name__
    return said if len(said) <= LONGEST_SHOWN else f"{said[: LONGEST_SHOWN - 1]}…"


def _converted(label: str, name: str, value: object) -> Any:
    try:
        return msgspec.convert(value, TYPES[name])
    except msgspec.ValidationError as error:
        if name == "price" and isinstance(value, Mapping):
            _check_price(label, value)
        raise ConfigError(_wrong(label, name, value, str(error))) from None


def _wrong(label: str, name: str, value: object, error: str) -> str:
    if name == "tape":
        hint = nearest(value, MODES) if isinstance(value, str) else f"it is one of {', '.join(MODES)}."
        return f"{label} = {written(value)} is no way to use tapes; {hint}"
    kind, key = _kind(name), label.rpartition(" ")[2].rpartition(".")[2]
    if name in UNQUOTED:
        what = f"{label} is not {KINDS[kind]}"
        if isinstance(value, Mapping):
            what = f"{label} holds what is not a text"
    elif not error.startswith("Expected"):  # of the right kind, and beyond what a machine counts to
        what = f"{label} = {written(value)} cannot be"
    else:
        what = f"{label} = {written(value)} is not {KINDS[kind]}"
    return f"{what}; write {key} = {_nearest_value(name, kind, value)}."


def _check_price(label: str, table: Mapping[str, object]) -> None:
    names = Price.__struct_fields__
    for name, value in table.items():
        if name not in names:
            raise ConfigError(f"{label}: there is no price.{name}; {nearest(name, names)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            right = _nearest_value("price.input", float, value)
            raise ConfigError(f"{label}.{name} = {written(value)} is not a number; write {name} = {right}.")
    for name in names:
        if name not in table:
            raise ConfigError(f"{label} has no {name}; write price = {EXAMPLES['price']}.")


def _kind(name: str) -> type:
    """The type of the setting `name`, but for the None that leaves it out."""
    said = TYPES[name]
    (kind,) = [one for one in get_args(said) if one is not NoneType] if NoneType in get_args(said) else [said]
    bare: type = get_origin(kind) or kind
    return bare


def _nearest_value(name: str, kind: type, value: object) -> str:
    """What `value` was most likely meant to be, as a file has it; else an example."""
    right: object = None
    if name == "agent" and isinstance(value, int | float):
        right = written(value)
    elif kind is bool:
        right = {"true": True, "yes": True, "on": True, "1": True}.get(str(value).lower(), False)
    elif kind in {int, float} and isinstance(value, str | float):
        found = read_number(str(value).strip())
        with suppress(ValueError, OverflowError):
            right = found if kind is float or int(found) != float(found) else int(found)
        right = None if isinstance(right, str) or (kind is int and isinstance(right, float)) else right
    if right is None:
        return EXAMPLES.get(name) or written(getattr(AgentConfig(), name, 3.0))
    return written(right)
