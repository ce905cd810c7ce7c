"""What a server's JSON says: values of the kind that is wanted, whatever was sent."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from agent_magic.errors import ProtocolError
from agent_magic.events import ServerSentEvent

__all__ = [
    "integer",
    "json_or_none",
    "number",
    "object_or_empty",
    "objects",
    "read_json",
    "read_object",
    "text",
    "to_json",
    "well_formed",
]

# CPython reads no integer of more digits (sys.get_int_max_str_digits), and nobody counts so far.
LONGEST_INTEGER = 4000
_DECODE = msgspec.json.Decoder().decode


def read_json(data: str | bytes) -> Any:
    """`data` parsed as JSON.

    msgspec reads what is well formed. What it refuses but JSON's grammar allows (a lone surrogate) is read
    by the standard library; a number that no number can hold stays text. Raises ValueError for anything else.
    """
    try:
        return _DECODE(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        pass
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def _real(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_object(sent: ServerSentEvent) -> dict[str, Any]:
    """The JSON object in `sent`. Raises `ProtocolError` where there is none."""
    try:
        value = read_json(sent.data)
    except ValueError:
        raise ProtocolError(
            f"The server sent a {sent.event or 'message'!r} event whose data is not JSON.", sent.data
        ) from None
    if not isinstance(value, dict):
        raise ProtocolError(f"The server sent a {sent.event or 'message'!r} event whose data is no object.", sent.data)
    return value


def json_or_none(data: str | bytes) -> Any:
    """`data` parsed as JSON; None where it is none."""
    try:
        return read_json(data)
    except ValueError:
        return None


def object_or_empty(data: str | bytes) -> dict[str, Any]:
    """The JSON object in `data`; an empty one where there is none."""
    value = json_or_none(data)
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none where `value` is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """`value` where it is a string, well formed; else None."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else well_formed(value)


def well_formed(piece: str) -> str:
    """`piece` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def to_json(value: object) -> str:
    """`value`, which was read from JSON, as JSON again. Raises `ProtocolError` where it is nested too deep."""
    try:
        return well_formed(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise ProtocolError("The server sent JSON that is nested too deep.") from None


def integer(value: object) -> int | None:
    """`value` where it is a whole number from 0 up; else None (a bool is no number)."""
    return value if type(value) is int and value >= 0 else None


def number(value: object) -> float | None:
    """`value` in seconds or the like where it is a finite number from 0 up; else None."""
    if type(value) is int or type(value) is float:
        return float(value) if 0 <= value < 1e15 else None  # NaN compares false
    return None
