"""Runs of a protocol against a server, one or many at once, each waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from agent_magic._request import AgentRequest
from agent_magic._run import Run
from agent_magic._stream import Policy
from agent_magic.protocols import AgentProtocol

__all__ = ["begin_against", "run_against", "run_together"]

PATIENCE_SECONDS = 60


def begin_against(url: str, protocol: AgentProtocol, policy: Policy | None = None, **request: Any) -> Run:
    """A run of `protocol` against the server at `url`, just begun."""
    ask = AgentRequest(**{"prompt": "Why?", "base_url": url, "agent": "demo", **request})
    run = Run(protocol, ask, policy or Policy(timeout=10, backoff=0, max_wait=1), "test")
    run.start()
    return run


def run_against(url: str, protocol: AgentProtocol, policy: Policy | None = None, **request: Any) -> Run:
    """A finished run of `protocol` against the server at `url`."""
    return _finished(begin_against(url, protocol, policy, **request))


def run_together(asked: Iterable[dict[str, Any]], at_once: int = 16) -> Iterator[Run]:
    """Finished runs, in order, `at_once` of them at a time; `asked` holds the arguments of `run_against`."""
    going: deque[Run] = deque()
    for arguments in asked:
        if len(going) == at_once:
            yield _finished(going.popleft())
        going.append(begin_against(**arguments))
    while going:
        yield _finished(going.popleft())


def _finished(run: Run) -> Run:
    if not run.wait(PATIENCE_SECONDS):
        run.stop()
        raise TimeoutError(f"the run did not end within {PATIENCE_SECONDS} s")
    return run
