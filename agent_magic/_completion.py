"""What Tab offers in ``%%agent`` cells and behind ``%agent``.

IPython asks a matcher with the whole cell and the cursor's place; what an offer replaces is the end of the
text before the cursor, so a cursor in the middle of a word is none of its business. An offer stands alone:
IPython's own names of files and of Python's things would drown it. Where there is nothing to offer, IPython
offers what it always does. No property or method of the person's is run: attributes are found by IPython's
guarded evaluation, and listed by name.
"""

from __future__ import annotations

import re
import shlex
from argparse import Action
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.utils.dir2 import dir2

from agent_magic._options import known_options
from agent_magic._slips import uncommented
from agent_magic._verbs import VERBS

__all__ = ["Completion", "Offer", "offers"]

CELL = re.compile(r"\s*%%agent(?=[ \t]|$)")
LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?%agent[ \t]+(.*)", re.DOTALL)
# In an expression up to the cursor: a filter's beginning; an object with an attribute's beginning; a name's.
FILTER = re.compile(r"(?<!\|)\|\s*(\w*)\Z")
ATTRIBUTE = re.compile(r"([^\W\d][\w.\[\]'\"]*)\.(\w*)\Z")
NAME = re.compile(r"(?<![\w.])((?!\d)\w*)\Z")
# Runs that `%agent recover` offers, the newest.
RUNS = 30


class Offer(NamedTuple):
    """What may stand in the place of `typed`, the end of the text before the cursor, each with its kind."""

    typed: str
    words: Sequence[tuple[str, str]]


NOTHING = Offer("", ())


class Completion:
    """The matcher in a shell's completer; `install` and `remove` are each other's reverse."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._matcher = _matcher_for(shell)

    def install(self) -> None:
        """Begin to offer."""
        self._shell.Completer.custom_matchers.append(self._matcher)

    def remove(self) -> None:
        """Leave the completer as it was."""
        self._shell.Completer.custom_matchers.remove(self._matcher)


def _matcher_for(shell: Any) -> Callable[[CompletionContext], SimpleMatcherResult]:
    def agent_matcher(context: CompletionContext) -> SimpleMatcherResult:
        above = context.full_text.split("\n")[: context.cursor_line]
        try:
            offer = offers("\n".join([*above, context.text_until_cursor]), _names(shell))
        except Exception:  # noqa: BLE001 (a key that was pressed for help must not end in a traceback)
            offer = NOTHING
        found = [SimpleCompletion(word, type=kind) for word, kind in offer.words]
        if not found:
            return SimpleMatcherResult(completions=[])
        return SimpleMatcherResult(completions=found, matched_fragment=offer.typed, suppress=True, ordered=True)

    matcher: Callable[[CompletionContext], SimpleMatcherResult] = context_matcher(
        priority=100, identifier="agent_magic"
    )(agent_matcher)
    return matcher


def _names(shell: Any) -> dict[str, Any]:
    """The person's own variables: not what IPython puts among them."""
    hidden = shell.user_ns_hidden
    return {
        name: value
        for name, value in shell.user_ns.items()
        if not (name in hidden and hidden[name] is value) and (not name.startswith("_") or name == "_agent")
    }


def offers(before: str, names: Mapping[str, Any]) -> Offer:
    """What to offer behind `before`, a cell up to the cursor, to a person with these variables."""
    lines = uncommented(before.splitlines(keepends=True))
    if not lines:
        return NOTHING
    cell = CELL.match(lines[0])
    if cell is not None and len(lines) == 1 and not before.endswith("\n"):
        return _on_the_line(lines[0][cell.end() :], names)
    if cell is not None:
        return _in_the_prompt(lines[0], "".join(lines[1:]), names)
    line = LINE.fullmatch(before.rpartition("\n")[2])
    return NOTHING if line is None or lines[0].lstrip().startswith("%%") else _behind_the_verb(line[1])


def _on_the_line(said: str, names: Mapping[str, Any]) -> Offer:
    """Agents and options, and what an option takes. `said` stands behind ``%%agent``, up to the cursor."""
    *words, typed = _split(said)
    if not said:
        return NOTHING
    known = known_options()
    actions = {name: action for action in known for name in action.option_strings}
    option, equals, value = typed.partition("=")
    if option in actions and equals:
        return _matching(value, _values(actions[option], words, names))
    if words and words[-1] in actions and actions[words[-1]].nargs != 0:
        return _matching(typed, _values(actions[words[-1]], words[:-1], names))
    given = {actions[word.partition("=")[0]] for word in words if word.partition("=")[0] in actions}
    left = [action for action in known if action not in given or isinstance(action.default, list)]
    options = [(name, "option") for action in left for name in reversed(action.option_strings)]
    if typed.startswith("-"):
        return _matching(typed, options)
    long = [(name, kind) for name, kind in options if name.startswith("--")]
    return _matching(typed, long if _agent_in(words, actions) else [*_agents(), *long])


def _split(said: str) -> list[str]:
    """The words of `said`, the last one unfinished: empty behind a space."""
    complete, _, typed = f" {said}".replace("\t", " ").rpartition(" ")
    try:
        return [*shlex.split(complete), typed]
    except ValueError:  # a quotation that is still open
        return [*complete.split(), typed]


def _agent_in(words: Sequence[str], actions: Mapping[str, Action]) -> str | None:
    """The agent among complete `words`, if it is named."""
    taken = False
    for word in words:
        if not taken and not word.startswith("-"):
            return word
        taken = not taken and word in actions and actions[word].nargs != 0
    return None


def _values(action: Action, words: Sequence[str], names: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What `action` takes."""
    if action.choices is not None:
        return [(str(choice), "choice") for choice in action.choices]
    match action.dest:
        case "session":
            from agent_magic._sessions import session_names

            return [(name, "session") for name in session_names()]
        case "param":
            actions = {name: each for each in known_options() for name in each.option_strings}
            return [(f"{name}=", "parameter") for name in _parameters(_agent_in(words, actions))]
        case "out":
            return [(name, "result") for name, value in names.items() if type(value).__name__ == "AgentResult"]
        case _:
            return []


def _agents() -> list[tuple[str, str]]:
    from agent_magic._config import load_settings
    from agent_magic.errors import ConfigError

    try:
        settings = load_settings()
    except ConfigError:  # asking an agent tells what is wrong with them
        return []
    # The default one first.
    return [(name, "agent") for name in sorted(settings.agents, key=lambda name: name != settings.default)]


def _parameters(agent: str | None) -> list[str]:
    from agent_magic._config import load_settings
    from agent_magic.errors import ConfigError

    try:
        return list(load_settings().agent(agent)[1].parameters)
    except ConfigError:
        return []


def _behind_the_verb(said: str) -> Offer:
    """Verbs, and what stands behind some of them."""
    *words, typed = said.split(" ")
    match [word for word in words if word]:
        case []:
            return _matching(typed, [(verb, "verb") for verb in VERBS])
        case ["show" | "use" | "login" | "logout"]:
            return _matching(typed, _agents())
        case ["recover"] | ["recover", "--resume"]:
            return _matching(typed, [*_runs(), ("--resume", "option")])
        case ["recover", _]:
            return _matching(typed, [("--resume", "option")])
        case ["stop"]:
            return _matching(typed, [("all", "option")])
        case _:
            return NOTHING


def _runs() -> Iterable[tuple[str, str]]:
    from agent_magic._journal import journal_folder, run_of, tapes

    return [(run_of(path), "run") for path in islice(tapes(journal_folder()), RUNS)]


def _in_the_prompt(head: str, body: str, names: Mapping[str, Any]) -> Offer:
    """Variables, attributes and filters inside ``{{ }}``. `body` ends at the cursor."""
    _, opened, expression = body.rpartition("{{")
    if not opened or "}}" in expression or "--raw" in head.split() or _is_quoted(expression):
        return NOTHING
    if found := FILTER.search(expression):
        return _matching(found[1], [(name, "function") for name in _filters()])
    if found := ATTRIBUTE.search(expression):
        return _matching(found[2], [(name, "property") for name in _attributes(found[1], names)])
    if found := NAME.search(expression):
        from agent_magic._template import FUNCTIONS

        own = [(name, _kind(value)) for name, value in names.items()]
        return _matching(found[1], [*own, *((name, "function") for name in FUNCTIONS)])
    return NOTHING


def _is_quoted(expression: str) -> bool:
    """Whether `expression` ends within a text."""
    return re.search(r"['\"]", re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)) is not None


def _filters() -> list[str]:
    """The product's own first."""
    import jinja2.filters

    from agent_magic._filters import FILTERS

    return [*FILTERS, *(name for name in jinja2.filters.FILTERS if name not in FILTERS)]


def _attributes(source: str, names: Mapping[str, Any]) -> list[str]:
    """The public attributes, and a mapping's keys, of what `source` says, found without running anything."""
    from IPython.core.guarded_eval import EvaluationContext, guarded_eval

    try:
        value = guarded_eval(source, EvaluationContext(globals={}, locals=dict(names), evaluation="limited"))
    except Exception:  # noqa: BLE001 (what may not be looked at is not offered)
        return []
    keys = [key for key in value if isinstance(key, str) and key.isidentifier()] if type(value) is dict else []
    return [name for name in dict.fromkeys([*keys, *dir2(value)]) if not name.startswith("_")]


def _kind(value: object) -> str:
    return "function" if callable(value) else "instance"


def _matching(typed: str, words: Iterable[tuple[str, str]]) -> Offer:
    """Those of `words` that begin as `typed` does; where none does, those that do in other letters."""
    words = list(words)
    exact = [pair for pair in words if pair[0].startswith(typed)]
    return Offer(typed, exact or [pair for pair in words if pair[0].lower().startswith(typed.lower())])
