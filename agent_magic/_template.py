"""A cell's text to a prompt: ``{{ name }}`` from the notebook's variables, in one pass.

Text without ``{{`` is never looked at. Only ``{{ … }}`` is a template: ``{%``, ``{#``, ``$`` and
single braces are text. What a value holds is never read as a template again. Expressions run in
Jinja2's sandbox, without any of Jinja2's own global names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from agent_magic.errors import PromptError

__all__ = ["render"]

FUNCTIONS: dict[str, Any] = {"len": len, "max": max, "min": min, "round": round, "sorted": sorted, "sum": sum}
RAW = "If the braces are part of the text, use --raw."
# Jinja2 has no switch for its other marks, so they are set to what no text holds.
NEVER = "\ue000\ue001agent_magic "


def render(text: str, names: Mapping[str, Any]) -> str:
    """`text` with each ``{{ expression }}`` replaced by its value. Raises `PromptError`."""
    if "{{" not in text:
        return text
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.exceptions import SecurityError, UndefinedError

    environment = _environment(text)
    try:
        wanted = meta.find_undeclared_variables(environment.parse(text))
    except TemplateSyntaxError as error:
        said = str(error.message).rstrip(".")
        raise PromptError(f"Line {error.lineno} of the prompt has {{{{ that cannot be read: {said}. {RAW}") from None
    except (RecursionError, ValueError) as error:
        raise PromptError(f"The prompt has {{{{ that cannot be read: {type(error).__name__}. {RAW}") from None
    for name in sorted(wanted):
        if name not in names and name not in FUNCTIONS:
            raise PromptError(_undefined(text, name, names))
    values = {name: names[name] for name in wanted if name in names}
    try:
        return str(environment.from_string(text).render(values))
    except (UndefinedError, SecurityError) as error:
        raise PromptError(f"The prompt's template failed: {str(error).rstrip('.')}. {RAW}") from None
    except Exception as error:
        raise PromptError(f"The prompt's template failed: {type(error).__name__}: {str(error).rstrip('.')}.") from error


def _environment(text: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        block_start_string=f"{NEVER}1",
        block_end_string=f"{NEVER}2",
        comment_start_string=f"{NEVER}3",
        comment_end_string=f"{NEVER}4",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        newline_sequence="\r\n" if "\r\n" in text else "\n",
    )
    environment.globals.clear()
    environment.globals.update(FUNCTIONS)
    return environment


def _undefined(text: str, name: str, names: Mapping[str, Any]) -> str:
    line = next(
        (place for place, row in enumerate(text.splitlines(), 1) if re.search(rf"{{{{.*\b{re.escape(name)}\b", row)), 1
    )
    public = [known for known in names if not known.startswith("_")]
    near = get_close_matches(name, [*public, *FUNCTIONS], n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"Line {line} of the prompt uses {name!r}, and there is no such variable.{hint} {RAW}"
