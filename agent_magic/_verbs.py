"""What stands behind ``%agent``: one object that shows itself, or a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from agent_magic.errors import ConfigError

__all__ = ["manage", "verbs_text"]

FORMS = {
    "stop": ("stop [all]", "end the newest run, or all"),
    "history": ("history [N]", "the last N runs of all kernels (20), as a list of results"),
    "recover": ("recover [RUN] [--resume]", "the result of a run, by default of the last that was cut off; or go on"),
}
HISTORY_LENGTH = 20


def manage(line: str, names: dict[str, Any]) -> object:
    """Do what `line`, the words behind ``%agent``, says; a recovered result is bound to `_agent` in `names`.

    Raises `ConfigError` with the nearest right words.
    """
    words = line.split()
    match words:
        case []:
            from agent_magic._overview import Overview

            return Overview()
        case ["stop"] | ["stop", "all"]:
            _stop(everything=len(words) == 2)
            return None
        case ["history"]:
            return _history(HISTORY_LENGTH)
        case ["history", number] if number.isascii() and number.isdigit() and int(number[:9]) > 0:
            return _history(int(number[:9]))
        case ["recover", *rest]:
            return _recover(rest, names)
        case _:
            raise _refusal(words)


def verbs_text() -> str:
    """The verbs as ``%agent?`` shows them."""
    lines = ["%agent: the agents, the default one, what is running"]
    return "\n".join([*lines, *(f"%agent {form}: {meaning}" for form, meaning in FORMS.values())])


def _refusal(words: Sequence[str]) -> ConfigError:
    verb = words[0]
    near = [verb] if verb in FORMS else get_close_matches(verb, FORMS, n=1)
    forms = [f"%agent {form}" for form, _ in FORMS.values()]
    hint = f"did you mean %agent {FORMS[near[0]][0]}?" if near else f"there are: %agent, {', '.join(forms)}."
    return ConfigError(f"There is no `%agent {' '.join(words)}`; {hint}")


def _stop(*, everything: bool) -> None:
    from agent_magic._run import live_runs

    runs = live_runs()
    for run in runs if everything else runs[-1:]:
        run.stop()
    if not runs:
        print("No agent is running.")  # noqa: T201 (what the person asked for)


def _history(number: int) -> object:
    from agent_magic._history import History

    return History.newest(number)


def _recover(rest: Sequence[str], names: dict[str, Any]) -> object:
    from agent_magic._history import Past

    options = [word for word in rest if word.startswith("-")]
    runs = [word for word in rest if not word.startswith("-")]
    if len(runs) > 1 or options not in ([], ["--resume"]):
        raise _refusal(["recover", *rest])
    past = Past.find(runs[0]) if runs else Past.newest_cut_off()
    if past is None:
        print("No run was cut off: every run that was written down has ended or is still going.")  # noqa: T201
        return None
    result = names["_agent"] = past.resumed() if options else past.result()
    return result
