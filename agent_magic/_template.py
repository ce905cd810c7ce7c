"""A cell's text to a prompt: ``{{ name }}`` from the notebook's variables, in one pass.

Each value is put in as a model reads it, see `_values`.

Text without ``{{`` is never looked at. Only ``{{ … }}`` is a template: ``{%``, ``{#``, ``$`` and
single braces are text. What a value holds is never read as a template again. Expressions run in
Jinja2's sandbox, without any of Jinja2's own global names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from agent_magic._filters import FILTERS
from agent_magic._values import Shown, shown
from agent_magic.errors import PromptError

__all__ = ["BUDGET", "Filled", "Put", "fill", "names_in"]

# The characters that one value may add to a prompt: some 8,000 tokens.
BUDGET = 30_000

FUNCTIONS: dict[str, Any] = {"len": len, "max": max, "min": min, "round": round, "sorted": sorted, "sum": sum}
RAW = "If the braces are part of the text, use --raw."
# Jinja2 has no switch for its other marks, so they are set to what no text holds.
NEVER = "\ue000\ue001agent_magic "


class Put(Struct, frozen=True):
    """What one ``{{ expression }}`` has put into a prompt."""

    expression: str
    value: Shown

    def __str__(self) -> str:
        """For ``--dry-run``: the expression, what it was, how much of it stands in the prompt."""
        cut = f", cut to {self.value.cut}" if self.value.cut else ""
        return f"{{{{ {self.expression} }}}}: {self.value.what}{cut}; {len(self.value.text):,} characters"


class Filled(Struct, frozen=True):
    """A prompt, and what was put into it, in order."""

    text: str
    put: list[Put] = []

    def cuts(self) -> list[str]:
        """What was left out, for the cell's line."""
        return [f"{put.expression}: {put.value.cut}" for put in self.put if put.value.cut]


def names_in(text: str) -> set[str]:
    """The names that the templates in `text` use; none where they cannot be read."""
    if "{{" not in text:
        return set()
    from jinja2 import TemplateSyntaxError, meta

    try:
        return set(meta.find_undeclared_variables(_environment(text, [], BUDGET).parse(text)))
    except (TemplateSyntaxError, RecursionError, ValueError):
        return set()


def fill(text: str, names: Mapping[str, Any], budget: int = BUDGET) -> Filled:
    """`text` with each ``{{ expression }}`` replaced by its value. Raises `PromptError`."""
    if "{{" not in text:
        return Filled(text)
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.exceptions import SecurityError, UndefinedError

    values: list[Shown] = []
    environment = _environment(text, values, budget)
    try:
        parsed = environment.parse(text)
        wanted = meta.find_undeclared_variables(parsed)
        expressions = list(_expressions(environment, text))
    except TemplateSyntaxError as error:
        said = str(error.message).rstrip(".")
        if (unknown := re.match("No filter named '(.+?)'", said)) is not None:
            near = get_close_matches(unknown[1], environment.filters, n=3)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"beside Jinja2's own there are {', '.join(FILTERS)}."
            )
            raise PromptError(f"Line {error.lineno} of the prompt: there is no filter {unknown[1]!r}; {hint}") from None
        if said.startswith("unexpected end of template"):
            said = "its }} is missing"
        raise PromptError(f"Line {error.lineno} of the prompt has {{{{ that cannot be read: {said}. {RAW}") from None
    except (RecursionError, ValueError) as error:
        raise PromptError(f"The prompt has {{{{ that cannot be read: {type(error).__name__}. {RAW}") from None
    _refuse_nameless(parsed)
    for name in sorted(wanted):
        if name not in names and name not in FUNCTIONS:
            raise PromptError(_undefined(text, name, names))
    known = {name: names[name] for name in wanted if name in names}
    try:
        filled = str(environment.from_string(text).render(known))
    except (UndefinedError, SecurityError) as error:
        raise PromptError(f"The prompt's template failed: {str(error).rstrip('.')}. {RAW}") from None
    except Exception as error:
        raise PromptError(f"The prompt's template failed: {type(error).__name__}: {str(error).rstrip('.')}.") from error
    return Filled(filled, [Put(*pair) for pair in zip(expressions, values, strict=True)])


def _refuse_nameless(parsed: Any) -> None:
    r"""Raise `PromptError` for braces with no variable in them, as TeX has them: ``\frac{{1}}{2}``.

    A text alone is allowed: ``{{ "{{" }}`` is how Jinja2 writes braces.
    """
    from jinja2 import nodes

    for output in parsed.find_all(nodes.Output):
        for node in output.nodes:
            is_text = isinstance(node, nodes.TemplateData) or (
                isinstance(node, nodes.Const) and type(node.value) is str
            )
            if not is_text and not isinstance(node, nodes.Name) and next(node.find_all(nodes.Name), None) is None:
                raise PromptError(f"Line {node.lineno} of the prompt has {{{{ with no variable in it. {RAW}")


def _expressions(environment: Any, text: str) -> Iterator[str]:
    """The source of each expression, in order."""
    inside: list[str] | None = None
    for _, kind, said in environment.lex(text):
        if kind == "variable_begin":
            inside = []
        elif kind == "variable_end" and inside is not None:
            yield " ".join("".join(inside).split())
            inside = None
        elif inside is not None:
            inside.append(said)


def _environment(text: str, values: list[Shown], budget: int) -> Any:
    from jinja2 import StrictUndefined, Undefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # With a context Jinja2 calls it when the prompt is made, in order, and not for constants at once.
    @pass_context
    def finalize(_context: object, value: Any) -> str:
        if isinstance(value, Undefined):
            return str(value)  # raises
        values.append(shown(value, budget))
        return values[-1].text

    environment = ImmutableSandboxedEnvironment(
        block_start_string=f"{NEVER}1",
        block_end_string=f"{NEVER}2",
        comment_start_string=f"{NEVER}3",
        comment_end_string=f"{NEVER}4",
        undefined=StrictUndefined,
        finalize=finalize,
        keep_trailing_newline=True,
        newline_sequence="\r\n" if "\r\n" in text else "\n",
    )
    environment.globals.clear()
    environment.globals.update(FUNCTIONS)
    environment.filters.update(FILTERS)
    return environment


def _undefined(text: str, name: str, names: Mapping[str, Any]) -> str:
    line = next(
        (place for place, row in enumerate(text.splitlines(), 1) if re.search(rf"{{{{.*\b{re.escape(name)}\b", row)), 1
    )
    public = [known for known in names if not known.startswith("_")]
    near = get_close_matches(name, [*public, *FUNCTIONS], n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"Line {line} of the prompt uses {name!r}, and there is no such variable.{hint} {RAW}"
