"""What stands behind ``%agent``: one object that shows itself, or a sentence.

A verb is one entry of `VERBS`: its forms for the help, and a function that takes the words behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from agent_magic._help import Help
from agent_magic.errors import ConfigError

__all__ = ["VERBS", "help_page", "manage", "verbs_text"]

HISTORY_LENGTH = 20
ASKS_NOTHING = "%agent looks after the agents and asks none"


class _Refused(Exception):
    """The words behind a verb are none of its forms."""


class Verb(NamedTuple):
    """`form` and `meaning` for people; `do` takes the words behind the verb, and the shell."""

    form: str
    meaning: str
    do: Callable[[Sequence[str], Any], object]


def manage(line: str, shell: Any) -> object:
    """Do what `line`, the words behind ``%agent`` in `shell`, says.

    Raises `ConfigError` with the nearest right words.
    """
    words = line.split()
    if not words:
        from agent_magic._overview import Overview

        return Overview()
    if line.rstrip().endswith("?"):
        return _answer(words, shell)
    verb = VERBS.get("help" if words[0] in {"-h", "--help"} else words[0])
    if verb is None:
        raise _refusal(words)
    try:
        return verb.do(words[1:], shell)
    except _Refused:
        raise _refusal(words) from None


def verbs_text() -> str:
    """The verbs as ``%agent?`` shows them."""
    forms = {"%agent": "the agents, the default one, what is running"}
    forms |= {f"%agent {verb.form}": verb.meaning for verb in VERBS.values()}
    return "\n".join(["verbs:", *(f"  {form:<34} {meaning}" for form, meaning in forms.items())])


def help_page() -> Help:
    """What ``%agent?`` shows."""
    return Help(verbs_text())


def _refusal(words: Sequence[str]) -> ConfigError:
    verb = words[0]
    if verb not in VERBS and verb in _agents():
        return ConfigError(f"{ASKS_NOTHING}; to ask {verb}, begin a cell with %%agent {verb}, the question below it.")
    near = [verb] if verb in VERBS else get_close_matches(verb, VERBS, n=1)
    forms = [f"%agent {verb.form}" for verb in VERBS.values()]
    hint = f"did you mean %agent {VERBS[near[0]].form}?" if near else f"there are: %agent, {', '.join(forms)}."
    ask = "" if near or len(words) < 2 else " To ask an agent, begin a cell with %%agent."
    return ConfigError(f"There is no `%agent {' '.join(words)}`; {hint}{ask}")


def _agents() -> Sequence[str]:
    from agent_magic._config import load_settings

    try:
        return list(load_settings().agents)
    except ConfigError:
        return []


def _answer(words: Sequence[str], shell: Any) -> object:
    """A line with a question mark: of a verb, what it does; anything else is a question for an agent."""
    said = " ".join(words).rstrip("? ")
    verb = VERBS.get(said.partition(" ")[0])
    if not said or said == "help":
        return help_page()
    if verb is not None:
        print(f"%agent {verb.form}: {verb.meaning}")  # noqa: T201
        return None
    from agent_magic._cell import can_be_clicked

    named = words[0] if len(words) > 1 else said
    agent, question = (f" {named}", words[1:]) if named in _agents() else ("", words)
    cell = f"%%agent{agent}\n{' '.join(question)}"
    ready = can_be_clicked(shell)
    place = "it is ready in the next one" if ready else "it would be"
    print(f"{ASKS_NOTHING}; a question goes into a cell of its own, and {place}:\n\n{cell}")  # noqa: T201
    if ready:
        shell.set_next_input(cell)
    return None


def _stop(words: Sequence[str], _shell: Any) -> None:
    from agent_magic._run import live_runs

    if words not in ([], ["all"]):
        raise _Refused
    runs = live_runs()
    for run in runs if words else runs[-1:]:
        run.stop()
    if not runs:
        print("No agent is running.")  # noqa: T201 (what the person asked for)


def _history(words: Sequence[str], _shell: Any) -> object:
    from agent_magic._history import History

    number = words[0] if words else str(HISTORY_LENGTH)
    if len(words) > 1 or not (number.isascii() and number.isdigit() and int(number[:9]) > 0):
        raise _Refused
    return History.newest(int(number[:9]))


def _recover(words: Sequence[str], shell: Any) -> object:
    from agent_magic._history import Past

    options = [word for word in words if word.startswith("-")]
    runs = [word for word in words if not word.startswith("-")]
    if len(runs) > 1 or options not in ([], ["--resume"]):
        raise _Refused
    past = Past.find(runs[0]) if runs else Past.newest_cut_off()
    if past is None:
        print("No run was cut off: every run that was written down has ended or is still going.")  # noqa: T201
        return None
    result = shell.user_ns["_agent"] = past.resumed() if options else past.result()
    return result


def _usage(words: Sequence[str], _shell: Any) -> object:
    from agent_magic._usage import tally

    if words:
        raise _Refused
    return tally()


def _code(words: Sequence[str], shell: Any) -> None:
    from agent_magic._result import AgentResult, as_cell

    answer = shell.user_ns.get("_agent")
    blocks = answer.code if isinstance(answer, AgentResult) else []
    if len(words) > 1 or not all(word.isascii() and word.isdigit() for word in words):
        raise _Refused
    if not blocks:
        raise ConfigError("There is no block of code to take: the last answer has none.")
    number = int(words[0][:9]) if words else 1
    if not 1 <= number <= len(blocks) or (not words and len(blocks) > 1):
        said = ", ".join(f"{place} {block.language or 'without a language'}" for place, block in enumerate(blocks, 1))
        what = f"There is no block {number}." if words else "Which block is it to be?"
        raise ConfigError(f"{what} The last answer has: {said}. Write %agent code N.")
    shell.set_next_input(as_cell(blocks[number - 1]))


def _sessions(words: Sequence[str], _shell: Any) -> object:
    from agent_magic._sessions import Sessions

    if words:
        raise _Refused
    return Sessions()


def _show(words: Sequence[str], _shell: Any) -> object:
    from agent_magic._show import Shown

    if len(words) > 1:
        raise _Refused
    return Shown.of(words[0] if words else None)


def _use(words: Sequence[str], _shell: Any) -> None:
    from agent_magic._show import use

    if len(words) != 1:
        raise _Refused
    print(use(words[0]))  # noqa: T201 (what the person asked for)


def _login(words: Sequence[str], _shell: Any) -> None:
    from agent_magic._login import login

    if len(words) > 1:
        raise _Refused
    print(login(words[0] if words else None))  # noqa: T201 (what the person asked for)


def _logout(words: Sequence[str], _shell: Any) -> None:
    from agent_magic._login import logout

    if len(words) > 1:
        raise _Refused
    print(logout(words[0] if words else None))  # noqa: T201 (what the person asked for)


def _doctor(words: Sequence[str], shell: Any) -> object:
    from agent_magic._doctor import examine

    if words:
        raise _Refused
    return examine(shell)


def _help(words: Sequence[str], _shell: Any) -> object:
    if words:
        raise _Refused
    return help_page()


VERBS = {
    "use": Verb("use NAME", "ask that agent without a name, for this session", _use),
    "show": Verb("show [NAME]", "each setting of an agent, and where it came from", _show),
    "login": Verb("login [NAME]", "store an agent's key in the keyring, asked for with a hidden prompt", _login),
    "logout": Verb("logout [NAME]", "delete an agent's key from the keyring", _logout),
    "stop": Verb("stop [all]", "end the newest run, or all", _stop),
    "history": Verb("history [N]", "the last N runs of all kernels (20), as a list of results", _history),
    "recover": Verb(
        "recover [RUN] [--resume]", "the result of a run, by default of the last that was cut off; or go on", _recover
    ),
    "sessions": Verb("sessions", "the conversations of this kernel", _sessions),
    "code": Verb("code [N]", "put block N of the last answer into a new cell", _code),
    "usage": Verb("usage", "runs, tokens, seconds and cost by agent, of this kernel and of the history", _usage),
    "doctor": Verb("doctor", "what works here, found by trying, and text for a bug report", _doctor),
    "help": Verb("help", "this, with examples; so does --help", _help),
}
