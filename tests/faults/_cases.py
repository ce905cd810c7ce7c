"""A case of misbehaviour, what must come of it, and how many are tried at once.

What holds for every ending is checked for each: a status; where it failed one sentence of a line, that
ends like a sentence, names the host and not the key; a text that any encoding can carry.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_magic._keys import Secret
from agent_magic._request import host_of
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic.errors import AgentMagicError
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import Act, ScriptedServer, begin_against

KEY = "sk-marked-0123456789"
# For servers that fall silent: long enough for two busy cores, short enough for many cases.
BRIEF = Policy(timeout=0.6, retries=0, backoff=0, max_wait=1)
ONCE = Policy(timeout=20, retries=0, backoff=0, max_wait=1)
PATIENT = Policy(timeout=20, retries=3, backoff=0, max_wait=1)


@dataclass(frozen=True)
class Case:
    """One fault. A field that is None is not looked at; the text is a beginning of `part_of`, and all of it where done."""

    name: str
    script: Act | None = None
    protocol: AgentProtocol = field(default_factory=RunAgent)
    policy: Policy = PATIENT
    status: Literal["done", "failed"] | None = "failed"
    text: str | None = None
    error: type[AgentMagicError] | None = None
    words: str = ""
    notices: int | None = None
    requests: int | None = None
    tls: ssl.SSLContext | None = None
    url: str = ""
    part_of: str | None = None
    key: str | None = KEY


@dataclass(frozen=True)
class Outcome:
    """What came of a case; `complaints` is empty where it is what must come of it."""

    case: Case
    run: Run
    complaints: list[str]

    @property
    def kind(self) -> Literal["done", "said", "failed", "wrong"]:
        """How it ended, for the table."""
        if self.complaints:
            return "wrong"
        if self.run.transcript.status == "failed":
            return "failed"
        return "said" if self.run.transcript.notices else "done"


def check_ending(run: Run, url: str, key: str | None = KEY) -> Iterator[str]:
    """What is wrong with the way in which `run` ended."""
    transcript = run.transcript
    if transcript.status not in {"done", "failed"}:
        yield f"it ended as {transcript.status}"
    text = transcript.text
    if text.encode("utf-8", "replace").decode() != text:
        yield "its text cannot be encoded"
    if transcript.status == "done":
        return
    error = transcript.error
    if not isinstance(error, AgentMagicError):
        yield f"it failed with {error!r}"
        return
    said = str(error)
    if not said.endswith((".", "!", "?")) or len(said.splitlines()) != 1 or len(said) > 1000:
        yield f"it failed with what is no sentence: {said!r}"
    if host_of(url) not in said:
        yield f"its sentence does not name the host: {said!r}"
    if "could not read the stream" in said:
        yield f"it failed by a defect: {said!r}"
    if key is not None and key in said + repr(vars(error)):
        yield "its sentence shows the key"


def _check(case: Case, run: Run, server: ScriptedServer | None) -> Iterator[str]:
    transcript = run.transcript
    yield from check_ending(run, run.ask.base_url, case.key)
    if case.status is not None and transcript.status != case.status:
        yield f"its status is {transcript.status} and not {case.status}: {transcript.error}"
    if case.text is not None and transcript.text != case.text:
        yield f"its text is {transcript.text[:300]!r} and not {case.text[:300]!r}"
    if case.part_of is not None:
        due = case.part_of if transcript.status == "done" else case.part_of[: len(transcript.text)]
        if transcript.text != due:
            yield f"its text is {transcript.text[:300]!r} and not {due[:300]!r}"
    if case.error is not None and type(transcript.error) is not case.error:
        yield f"its error is {transcript.error!r} and no {case.error.__name__}"
    if case.words not in str(transcript.error):
        yield f"its sentence lacks {case.words!r}: {transcript.error}"
    if case.notices is not None and len(transcript.notices) != case.notices:
        yield f"its notices are {transcript.notices}"
    if case.requests is not None and server is not None and len(server.requests) != case.requests:
        yield f"it asked {len(server.requests)} times and not {case.requests}"


def play(cases: Iterable[Case], at_once: int = 24) -> Iterator[Outcome]:
    """The outcome of each case, in order, `at_once` of them at a time, each with a server of its own."""
    going: deque[tuple[Case, Run, ScriptedServer | None, ExitStack]] = deque()
    try:
        for case in cases:
            if len(going) == at_once:
                yield _end(*going.popleft())
            going.append(_begin(case))
        while going:
            yield _end(*going.popleft())
    finally:
        for _, run, _, stack in going:
            run.stop()
            stack.close()


def _begin(case: Case) -> tuple[Case, Run, ScriptedServer | None, ExitStack]:
    stack = ExitStack()
    server = stack.enter_context(ScriptedServer(case.script, tls=case.tls)) if case.script is not None else None
    url = case.url or (server.url if server is not None else "")
    request: dict[str, Any] = {} if case.key is None else {"key": Secret(case.key)}
    return case, begin_against(url, case.protocol, case.policy, **request), server, stack


def _end(case: Case, run: Run, server: ScriptedServer | None, stack: ExitStack) -> Outcome:
    with stack:
        if not run.wait(60):
            run.stop()
            return Outcome(case, run, ["it did not end within 60 s"])
        return Outcome(case, run, list(_check(case, run, server)))


def complaints(cases: Iterable[Case], at_once: int = 24) -> list[str]:
    """What is wrong with the outcomes, a line each; empty where all is well."""
    return [f"{one.case.name}: {said}" for one in play(cases, at_once) for said in one.complaints]
