"""One run, read beside the thread that asked for it.

All runs of a process share one event loop in one thread (an anyio portal). A run is a task there: it
reads and folds, and wakes whoever listens; nobody who paints can slow it. `stop` may be called from
any thread and closes the socket at once. An exit handler ends the loop, so a plain script exits.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Event, Lock
from typing import Literal
from uuid import uuid4

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from agent_magic._request import AgentRequest, host_of
from agent_magic._stream import Policy, follow
from agent_magic._transcript import Transcript
from agent_magic.errors import AgentMagicError, ProtocolError
from agent_magic.events import AgentEvent
from agent_magic.protocols import AgentProtocol

__all__ = ["Run", "live_runs"]

Ending = Literal["stopped", "interrupted"]

_LOCK = Lock()
_PORTALS: dict[int, BlockingPortal] = {}
_LIVE: dict[str, Run] = {}


def live_runs() -> list[Run]:
    """The runs of this process that have not ended, oldest first."""
    return list(_LIVE.values())


def _portal() -> BlockingPortal:
    with _LOCK:
        # Keyed by process: a forked child has the object but not the thread.
        portal = _PORTALS.get(os.getpid())
        if portal is None:
            stack = ExitStack()
            portal = stack.enter_context(start_blocking_portal("asyncio", name="agent_magic"))
            _PORTALS[os.getpid()] = portal
            atexit.register(_close, stack, portal)
        return portal


def _close(stack: ExitStack, portal: BlockingPortal) -> None:
    if _PORTALS.pop(os.getpid(), None) is portal:
        portal.call(portal.stop, True)
        stack.close()


class Run:
    """A question on its way. `start` begins it; `transcript` holds what has come of it."""

    def __init__(self, protocol: AgentProtocol, ask: AgentRequest, policy: Policy, agent: str) -> None:
        self.id = uuid4().hex[:12]
        self.agent = agent
        self.protocol = protocol.name
        self.ask = ask
        self.price = policy.price
        self.transcript = Transcript()
        self._protocol = protocol
        self._policy = policy
        self._over = Event()
        self._lock = Lock()
        self._ending: Ending | None = None
        self._scope: anyio.CancelScope | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self._over.is_set()

    def start(self) -> None:
        """Begin to read, in the shared loop."""
        _LIVE[self.id] = self
        _portal().start_task_soon(self._read)

    def stop(self, ending: Ending = "stopped") -> None:
        """End the run and close its socket; from any thread, at any time, more than once."""
        with self._lock:
            if self._ending is not None or self.is_over:
                return
            self._ending = ending
            scope = self._scope
        if scope is not None:
            _portal().start_task_soon(_cancel, scope)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most `timeout` seconds; whether it has."""
        return self._over.wait(timeout)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake`, in the reader's thread, whenever something is new; returns what ends that.

        `wake` must return at once: the reader waits for it.
        """
        self._listeners.append(wake)
        if self.is_over:
            wake()
        return lambda: self._listeners.remove(wake)

    def notify(self, news: asyncio.Event) -> Callable[[], None]:
        """Set `news`, in the loop that runs now, whenever something is new; returns what ends that."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # One wake-up stands for all that arrived since; and a loop that has gone needs none.
            if not news.is_set():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(news.set)

        return self.listen(wake)

    def _wake(self) -> None:
        for wake in tuple(self._listeners):
            wake()

    def _emit(self, event: AgentEvent) -> None:
        self.transcript.apply(event)
        self._wake()

    async def _read(self) -> None:
        error: AgentMagicError | None = None
        try:
            with anyio.CancelScope() as scope:
                with self._lock:
                    self._scope = scope
                    if self._ending is not None:
                        scope.cancel()
                await follow(self._protocol, self.ask, self._policy, self._emit)
        except AgentMagicError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 (a defect must end the run too, not leave it running for ever)
            said = " ".join(f"{type(raised).__name__} {raised}".split())[:300].rstrip(".")
            error = ProtocolError(f"agent_magic could not read the stream of {host_of(self.ask.base_url)}: {said}.")
            error.__cause__ = raised
        finally:
            self._finish(error)

    def _finish(self, error: AgentMagicError | None) -> None:
        error = error or self.transcript.error
        if self.transcript.is_complete:  # a stop that came too late stopped nothing
            self.transcript.close("done")
        elif self._ending is not None:
            self.transcript.close(self._ending)
        elif error is not None:
            self.transcript.close("failed", error)
        else:  # the loop is being shut down
            self.transcript.close("stopped")
        _LIVE.pop(self.id, None)
        self._over.set()
        self._wake()


def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()
