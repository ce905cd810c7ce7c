"""When runs that belong together may ask: what a server tells one of them holds for all.

A server that says "later" to one row of a map means its client, not the row. So the rows share a `Pace`:
where one is to wait, no other asks before that moment either. As soon as one of them gets an answer, the
server listens again, and the others' budgets of retries are renewed: of a thousand rows none should fail
because seven others stood before it. A run by itself has a pace of its own, which holds nobody else.

All of it is called in the readers' loop, but for what is only read.
"""

from __future__ import annotations

from time import monotonic

import anyio

from agent_magic.errors import AgentMagicError

__all__ = ["Pace"]


class Pace:
    """A gate. `passed` counts the runs that have got something of an answer.

    `refusal` is set where the server will have none of them: why those that have not begun need not ask.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self.passed = 0
        self.refusal: AgentMagicError | None = None

    @property
    def held(self) -> float:
        """For how many seconds from now nobody is to ask."""
        return max(0.0, self._until - monotonic())

    def hold(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        self._until = max(self._until, monotonic() + seconds)

    async def wait(self) -> None:
        """Wait until one may ask; what is held while this waits counts too."""
        while (left := self.held) > 0:  # noqa: ASYNC110 (what is waited for is a time, and it moves)
            await anyio.sleep(left)
