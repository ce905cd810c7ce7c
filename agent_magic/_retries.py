"""How often a connection that was lost is made again, and after how long.

The budget counts failures in a row. It is renewed where the answer went on, where the task that is read has come
further, and where others who share the pace got through meanwhile. A server that leads from reply to reply, and to
no word of an answer, has a budget of its own.
"""

from __future__ import annotations

import random

from agent_magic._pace import Pace
from agent_magic._policy import Policy
from agent_magic._request import AgentRequest
from agent_magic.errors import AgentMagicError, RateLimited
from agent_magic.events import Failed

__all__ = ["Budget", "Lost"]

# A task leads to its stream and that to the result. More without a word of the answer is no way to one.
MOST_LEADS = 4


class Lost(Exception):
    """The connection ended before the answer did; `error` is what to raise when no attempt is left."""

    def __init__(self, reason: str, error: AgentMagicError, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        self.retry_after = retry_after
        self.failed: Failed | None = None

    @property
    def says_later(self) -> bool:
        """Whether the server asks its client to come back later, and has nothing against the question."""
        return self.retry_after is not None or isinstance(self.error, RateLimited)


class Budget:
    """One run's. `failures` are those in a row."""

    def __init__(self, policy: Policy, pace: Pace) -> None:
        self._policy = policy
        self._pace = pace
        self._others_passed = 0
        self._has_passed = False
        self._leads = 0
        self._place = -1
        self.failures = 0

    def renew(self) -> None:
        """The answer went on."""
        self.failures = self._leads = 0
        if not self._has_passed:
            self._has_passed = True
            self._pace.passed += 1

    def may_lead(self) -> bool:
        """Whether one more reply may lead to another."""
        self._leads += 1
        return self._leads <= MOST_LEADS

    def may_retry(self, lost: Lost, following: AgentRequest | None) -> bool:
        """Whether there may be one more attempt, by `following` where the answer had begun."""
        if lost.says_later:
            self._hold_all(lost.retry_after or 0)
        self.failures = 1 if self._has_moved(following) else self.failures + 1
        return self.failures <= self._policy.retries

    def delay(self, lost: Lost) -> float | None:
        """The seconds before the next attempt; None where the server wants more than one waits for."""
        if lost.retry_after is None:
            doubled: int = 2 ** (self.failures - 1)
            return self._policy.backoff * doubled * random.uniform(0.8, 1.2)
        if lost.retry_after > self._policy.max_wait:
            self._pace.refusal = lost.error
            return None
        return lost.retry_after

    def _has_moved(self, following: AgentRequest | None) -> bool:
        """Whether the task that `following` names has come further since it was last asked for."""
        task = None if following is None else following.task
        if task is None or task.after is None or task.after <= self._place:
            return False
        self._place = task.after
        return True

    def _hold_all(self, seconds: float) -> None:
        """Let nobody who shares the pace ask for so long."""
        if self._pace.passed > self._others_passed:
            self._others_passed = self._pace.passed
            self.failures = 0
        self._pace.hold(min(seconds, self._policy.max_wait))
