"""One run, read beside the thread that asked for it.

All runs of a process share one event loop in one thread (`_loop`). A run is a task there: it reads and
folds, and wakes whoever listens; nobody who paints can slow it. `stop` may be called from any thread
and closes the socket at once.

A run with a journal is written down while it is read. Its end waits a moment for its tape, so that what
must be said of the tape stands in the run's own notices.
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock
from typing import Literal, NamedTuple
from uuid import uuid4

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from msgspec import structs

from agent_magic import _loop
from agent_magic._connection import check_request
from agent_magic._deck import Call, Clock, Player, Taped, entry_of
from agent_magic._echo import guarded
from agent_magic._key_sources import forget_key
from agent_magic._keys import strike_all
from agent_magic._local import LocalModel
from agent_magic._pace import Pace
from agent_magic._policy import Price
from agent_magic._request import AgentRequest, host_of
from agent_magic._stream import Policy, follow
from agent_magic._tape import (
    VERSION,
    Entry,
    Flushed,
    Header,
    Outcome,
    Question,
    Recording,
    Resumed,
    Retried,
    microseconds,
)
from agent_magic._taping import Taping, keep_tape
from agent_magic._transcript import Status, Transcript
from agent_magic._writer import Tape
from agent_magic.errors import AgentMagicError, AuthError, ConfigError, ProtocolError
from agent_magic.events import AgentEvent, Connected, Connecting, Notice, Retrying, Usage
from agent_magic.protocols import AgentProtocol, Decoder

__all__ = ["Run", "Spent", "live_runs", "spent"]

Ending = Literal["stopped", "interrupted"]

_FROM_CONNECTION = (Connecting, Connected, Retrying)
LIVE = Taping()
_LIVE: dict[str, Run] = {}
_SPENT: list[Spent] = []


def live_runs() -> list[Run]:
    """The runs of this process that have not ended, oldest first."""
    return list(_LIVE.values())


def spent() -> list[Spent]:
    """What each run of this process that has ended took."""
    return list(_SPENT)


def _forget_parent() -> None:
    """In a forked child: the runs are the parent's."""
    _LIVE.clear()
    _SPENT.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


class Spent(NamedTuple):
    """What one run took."""

    agent: str
    status: Status
    usage: Usage
    seconds: float
    price: Price | None


class Run:
    """A question on its way. `start` begins it; `transcript` holds what has come of it.

    `taping` says whether it is written down, recorded, or replayed; `pace` is shared with runs that belong to it;
    `local` is the model that answers, where it is one of this machine's.
    """

    def __init__(  # noqa: PLR0913 (what a run is given is not one thing)
        self,
        protocol: AgentProtocol,
        ask: AgentRequest,
        policy: Policy,
        agent: str,
        taping: Taping = LIVE,
        *,
        pace: Pace | None = None,
        local: LocalModel | None = None,
    ) -> None:
        self.id = uuid4().hex[:12]
        self.agent = agent
        self.protocol = protocol.name
        self.ask = ask
        self.price = policy.price
        self._clock = Clock()
        self.transcript = Transcript() if taping.replays is None else Transcript(self._clock)
        self._protocol = protocol
        self._policy = policy
        self._pace = pace
        self._local = local
        self._over = Event()
        self._lock = Lock()
        self._ending: Ending | None = None
        self._scope: anyio.CancelScope | None = None
        self._listeners: list[Callable[[], None]] = []
        self._journal = taping.journal
        self._tape: Tape | None = None
        self._first_request = ask
        self._begun: Decoder | None = None
        self._earlier: list[Entry] = []
        self._resumes: str | None = None
        self._has_key_in_pieces = False
        self._is_cut_off = False
        self._records = taping.records
        self._recorded: list[Entry] = []
        self._replays = taping.replays

    @property
    def taped(self) -> str:
        """What a tape had to do with it, in a word, or nothing."""
        if self._replays is not None:
            return "replayed"
        return "recorded" if self._records is not None and self.transcript.status == "done" else ""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self._over.is_set()

    def start(self) -> None:
        """Begin to read, in the shared loop."""
        _LIVE[self.id] = self
        # The tape first: at exit what began last ends first, and the tapes are to see how the runs end.
        self._open_tape()
        try:
            _loop.begin(self._read)
        except AgentMagicError as error:
            _LIVE.pop(self.id, None)
            if self._tape is not None:
                self._tape.end("failed", error, self.transcript.elapsed, self.transcript.usage)
            raise

    def take_up(self, tape: Recording) -> None:
        """Before `start`: go on where the run on `tape` ended, in this one; all that it had comes first.

        Raises `ConfigError` where that cannot be.
        """
        ended = "the kernel had ended" if tape.outcome is None else "the run had ended"
        retried = Retried(at=0, attempt=1, retries=self._policy.retries, delay=0, reason=ended)
        heard = [structs.replace(entry, at=0) for entry in tape.entries if not isinstance(entry, Flushed)]
        self._earlier = [*heard, Resumed(at=0), retried]
        self._begun = guarded(self._protocol.decoder(self.ask), self.ask.secrets, self._forget)
        player = Player(self._begun, self.transcript.apply)
        for entry in self._earlier:
            player.play(entry)
        run = tape.header.run
        if self.transcript.is_complete or self.transcript.error is not None:
            raise ConfigError(f"Run {run} came to its end; ask again for another answer.")
        if player.following is None:
            raise ConfigError(f"The stream of run {run} cannot be taken up again, what arrived is all; ask again.")
        self._first_request, self._resumes = player.following, run
        check_request(self._protocol.request(self._first_request), self._policy)

    def stop(self, ending: Ending = "stopped") -> None:
        """End the run and close its socket; from any thread, at any time, more than once."""
        with self._lock:
            if self._ending is not None or self.is_over:
                return
            self._ending = ending
            scope = self._scope
        if scope is not None:
            _loop.cancel(scope)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most `timeout` seconds; whether it has."""
        return self._over.wait(timeout)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` now, and in the reader's thread whenever something is new; returns what ends that.

        `wake` must return at once: the reader waits for it.
        """
        self._listeners.append(wake)
        wake()  # what arrived before is news too
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
        # What the connection does is told to the tape here, what the server says by the decoder.
        if isinstance(event, _FROM_CONNECTION):
            self._tell(event)
        self.transcript.apply(event)
        self._wake()

    def _tell(self, call: Call) -> None:
        """Have what happened written down."""
        if self._tape is not None:
            self._tape.tell(call)
        if self._records is not None:
            self._recorded.append(entry_of(call, microseconds(self.transcript.elapsed)))

    def _open_tape(self) -> None:
        if self._journal is None:
            return
        self._tape = Tape(self._journal, self._header(), self.ask.secrets, self._note, self.transcript.began)
        if self._has_key_in_pieces:
            self._tape.forget()
        elif self._earlier:
            self._tape.copy(self._earlier)

    def _header(self) -> Header:
        return Header(
            version=VERSION,
            run=self.id,
            agent=self.agent,
            protocol=self.protocol,
            started=datetime.now(UTC),
            host=socket.gethostname(),
            pid=os.getpid(),
            question=Question.of(self.ask),
            policy=msgspec.to_builtins(self._policy),
            resumes=self._resumes,
        )

    def _note(self, sentence: str) -> None:
        self._emit(Notice(message=sentence))

    async def _read(self) -> None:
        error: AgentMagicError | None = None
        try:
            with anyio.CancelScope() as scope:
                with self._lock:
                    self._scope = scope
                    if self._ending is not None:
                        scope.cancel()
                await self._follow()
        except AgentMagicError as raised:
            # Its frames held what the server sent and what was sent to it: no debugger or traceback is to show that.
            error = self._refused(raised).with_traceback(None)
        except asyncio.CancelledError:
            raise
        except BaseException as raised:  # noqa: BLE001 (a defect must end the run too, not leave it running for ever)
            error = self._defect(raised)
        finally:
            status, error = self._outcome(error)
            await self._end(status, error)

    def _refused(self, error: AgentMagicError) -> AgentMagicError:
        """`error`; a held key that a server refuses is held no longer, and the sentence says where it came from."""
        ask = self.ask
        if not isinstance(error, AuthError) or ask.key_env is None or ask.key is None:
            return error
        said = forget_key(ask.key_env, ask.key)
        return error if said is None else AuthError(f"{error} {said}")

    def _defect(self, raised: BaseException) -> AgentMagicError:
        words = type(raised).__name__
        with suppress(Exception):  # an error of somebody else's may not even say what it is
            words = " ".join(f"{words} {raised}".split())
        said = strike_all(words, self.ask.secrets)[:300].rstrip(".")
        error = ProtocolError(f"agent_magic could not read the stream of {host_of(self.ask.base_url)}: {said}.")
        told = "".join(traceback.format_exception(raised))
        if not any(secret.is_in(told) for secret in self.ask.secrets):
            error.__cause__ = raised
        return error

    async def _follow(self) -> None:
        if self._replays is not None:
            await self._replay(self._replays)
            return
        protocol = self._protocol
        if self._tape is not None or self._records is not None or self._begun is not None:
            protocol = Taped(protocol, self._tell, self._begun)
        await follow(
            protocol, self._first_request, self._policy, self._emit, self._forget, pace=self._pace, local=self._local
        )

    async def _replay(self, tape: Recording) -> None:
        """Do what the tape says, as fast as it goes; its seconds are the run's."""
        player = Player(guarded(self._protocol.decoder(self.ask), self.ask.secrets, self._forget), self._emit)
        for entry in tape.entries:
            self._clock.now = entry.at
            player.play(entry)
            await anyio.lowlevel.checkpoint()  # a stop comes through
        if player.error is not None:
            raise player.error
        if tape.outcome is not None:
            self._clock.now = tape.outcome.at
        if not self.transcript.is_complete:
            raise ConfigError(
                f"The tape for this question ({tape.header.run}) no longer ends in an answer, as its protocol is read "
                "today; record it anew with --tape record."
            )

    async def _record(self, path: Path, elapsed: float) -> None:
        """Keep the tape of what was heard; where that cannot be, say so."""
        reason = "the server sent a key back in pieces" if self._has_key_in_pieces else ""
        header = structs.replace(
            self._header(), run=path.stem.rpartition("-")[2], host="", pid=0, policy={}, question=self._plain_question()
        )
        tape = Recording(header, self._recorded, Outcome(at=microseconds(elapsed), status="done"))
        try:
            if not reason:
                await anyio.to_thread.run_sync(keep_tape, path, tape, self.ask.secrets)
        except OSError as error:
            reason = f"{error.filename or path}: {error.strerror or type(error).__name__}"
        if reason:
            self._note(f"No tape was recorded ({reason}); the run itself is whole.")
            self._records = None

    def _plain_question(self) -> Question:
        """What was asked, for a tape that others read: where and with which headers is each one's own."""
        return structs.replace(Question.of(self.ask), base_url="", headers=(), key_env=None, auth=None)

    def _forget(self) -> None:
        """Keep nothing of what the server has sent, as it came: there is a key in it, in pieces."""
        self._has_key_in_pieces = True
        self.transcript.forget_sent()
        if self._tape is not None:
            self._tape.forget()

    def _outcome(self, error: AgentMagicError | None) -> tuple[Status, AgentMagicError | None]:
        error = error or self.transcript.error
        if self.transcript.is_complete:  # a stop that came too late stopped nothing
            return "done", None
        if self._ending is not None:
            return self._ending, None
        if error is not None:
            return "failed", error
        self._is_cut_off = True  # the loop is being shut down, as the process is
        return "stopped", None

    async def _end(self, status: Status, error: AgentMagicError | None) -> None:
        elapsed = self.transcript.elapsed
        try:
            if self._records is not None and status == "done":
                await self._record(self._records, elapsed)
            if self._tape is not None and not self._is_cut_off:  # `recover` finds a tape that has no outcome
                self._tape.end(status, error, elapsed, self.transcript.usage)
                await self._tape.written()
        finally:  # also when the loop is being shut down, and nothing is waited for
            self.transcript.close(status, error, elapsed)
            if self._replays is None:
                figures = structs.replace(self.transcript.usage, raw={})
                _SPENT.append(Spent(self.agent, status, figures, elapsed, self.price))
            _LIVE.pop(self.id, None)
            self._over.set()
            self._wake()
