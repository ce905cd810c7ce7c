"""Whether a cell awaits. The room that knows IPython's transformers and ipykernel's versions.

A cell that awaits gets the clicks on its buttons, on every kernel; one that blocks does not. A cell
magic is a plain function, but the cell around it can await: a transformer behind IPython's own puts
``await`` before the call that ``%%agent`` became. It must not do so in a cell inside a cell
(``%%capture``, ``%run``, ``ip.run_cell``), where a loop already runs or nobody awaits. A cell inside a
cell is known by the request that it belongs to, which has been seen before. And the transformer puts
a mark into the call; by the mark alone the magic knows that it is awaited.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from threading import current_thread, main_thread
from typing import Any, Self

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import ExecutionInfo, InteractiveShell

from agent_magic._slips import uncommented
from agent_magic._waiting import Wait, set_way, wait_plainly

__all__ = [
    "AwaitedCells",
    "Clicks",
    "abort_queue",
    "can_be_asked",
    "can_be_clicked",
    "cell_id",
    "interruptible",
    "is_watched",
    "parent_message",
    "short_interrupt",
]

CALL = "get_ipython().run_cell_magic('agent', "
# The one verb that tries out what reaches a cell that awaits.
DOCTOR = re.compile(r"get_ipython\(\)\.run_line_magic\('agent', ' *doctor *'\)\n?")
# No line that a person types holds a NUL.
MARK = "\0awaited\0"
SETTLE_SECONDS = 0.05
# The messages whose cell has polled for clicks, until it ends.
_POLLED: list[dict[str, Any]] = []
# Kernels that are set to abort their queue, until their next cell.
_ABORTING: list[Any] = []


class AwaitedCells:
    """Makes a top-level ``%%agent`` cell await; `install` and `remove` are each other's reverse."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._entered: deque[str | None] = deque(maxlen=1000)
        self._raw_cell = ""
        self._depth = 0
        self._hooks: dict[str, Callable[..., None]] = {
            "pre_execute": self._enter,
            "pre_run_cell": self._note,
            "post_run_cell": self._leave,
        }

    def install(self) -> None:
        """Begin to rewrite."""
        self._shell.input_transformers_post.append(self._transform)
        for event, hook in self._hooks.items():
            self._shell.events.register(event, hook)
        # The cell that loads the extension, if a cell does, was entered before anybody looked.
        self._entered.append(self._request())
        set_way(self._clicks)

    def remove(self) -> None:
        """Leave the shell as it was."""
        set_way(None)
        self._shell.input_transformers_post.remove(self._transform)
        for event, hook in self._hooks.items():
            self._shell.events.unregister(event, hook)

    def split(self, line: str) -> tuple[bool, str]:
        """Whether the call is awaited, and the line without the mark."""
        return line.startswith(MARK), line.removeprefix(MARK)

    def typed_body(self, line: str, body: str) -> str:
        """The cell's text as it was typed.

        IPython strips ``>>> `` and ``In [1]: `` from the beginning of lines, which a prompt may well hold.
        """
        head, newline, typed = self._raw_cell.partition("\n")
        same_cell = newline and head.split() == ["%%agent", *line.split()]
        text = typed if same_cell else body
        return text if same_cell and typed.endswith("\n\n") else text.removesuffix("\n")

    def _enter(self) -> None:
        self._entered.append(self._request())

    def _note(self, info: ExecutionInfo) -> None:
        self._depth += 1
        self._raw_cell = "".join(uncommented(str(info.raw_cell or "").splitlines(keepends=True)))

    def _leave(self, _result: object) -> None:
        self._depth = max(0, self._depth - 1)

    def _clicks(self) -> AbstractAsyncContextManager[Wait] | None:
        """The way to wait for a result: with clicks coming through, where a cell does and the kernel needs help."""
        in_cell = self._depth > 0 and current_thread() is main_thread()
        kernel = getattr(self._shell, "kernel", None)
        return None if kernel is None or not in_cell or not _needs_polling() else self._awaited()

    @asynccontextmanager
    async def _awaited(self) -> AsyncIterator[Wait]:
        async with Clicks(self._shell) as clicks:

            async def wait(news: asyncio.Event, seconds: float) -> None:
                # A task may go on when its cell has ended. What is run then is the kernel's own business again.
                await (clicks.wait(news, seconds) if self._depth else news.wait())

            yield wait

    def _request(self) -> str | None:
        """The id of the message that has the kernel execute; None in a terminal."""
        name = parent_message(self._shell).get("header", {}).get("msg_id")
        return None if name is None else str(name)

    def _transform(self, lines: list[str]) -> list[str]:
        request = self._request()
        if request is None or request in self._entered or not self._shell.autoawait:
            return lines
        text = "".join(lines)
        if DOCTOR.fullmatch(text):
            return [f"await get_ipython().run_line_magic('agent', {f'{MARK}doctor'!r})\n"]
        if not text.startswith(CALL) or text.count("\n") > 1:
            return lines
        return [f"await {CALL}{MARK!r} {text.removeprefix(CALL)}"]


class Clicks:
    """Lets a front end's clicks through while a cell awaits: ``async with Clicks(shell) as clicks``.

    ipykernel from 7.4 on handles them by itself while the cell awaits; there jupyter-ui-poll would
    break the kernel's dispatch. Before that jupyter-ui-poll is the way, on every version tried.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._stack = AsyncExitStack()
        self._poll: Callable[[int], Awaitable[None]] | None = None

    async def __aenter__(self) -> Self:
        if _needs_polling():
            from jupyter_ui_poll import ui_events

            self._poll = await self._stack.enter_async_context(ui_events())
            _say_idle_at_end(self._shell)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def wait(self, news: asyncio.Event, seconds: float) -> None:
        """Wait for `news`, at most `seconds`, with clicks coming through."""
        if self._poll is not None:
            await self._poll(10)
            seconds = min(seconds, 0.03)
        await wait_plainly(news, seconds)


def _say_idle_at_end(shell: InteractiveShell) -> None:
    """Have the kernel say once more that this cell, in which clicks are polled, is over, when it is.

    With a click as the last message, on this cell's button or on another run's, ipykernel 7.1 to 7.3 address the
    cell's last "idle" to the click (seen on 7.3.0, with jupyter-ui-poll 1.1.0), and a front end would show the cell
    as running for ever. So it is said again, to the cell, a moment after the kernel has answered it.
    """
    kernel, message = getattr(shell, "kernel", None), parent_message(shell)
    if kernel is None or _ipykernel() < (7, 0) or message in _POLLED:
        return

    def ended(_result: object) -> None:
        shell.events.unregister("post_run_cell", ended)
        _POLLED.remove(message)
        with suppress(RuntimeError):  # no loop runs, as where a shell is driven by hand
            loop = asyncio.get_running_loop()
            loop.call_later(SETTLE_SECONDS, kernel._publish_status, "idle", "shell", message)

    _POLLED.append(message)
    shell.events.register("post_run_cell", ended)


def _needs_polling() -> bool:
    return _ipykernel() < (7, 4)


def _ipykernel() -> tuple[int, int]:
    """The version of ipykernel; another kernel counts as the newest."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        major, minor = version("ipykernel").split(".")[:2]
    except PackageNotFoundError:
        return (99, 0)
    return (int(major), int(minor))


def parent_message(shell: InteractiveShell) -> dict[str, Any]:
    """The message that the kernel answers now, as ipykernel's shell knows it; empty elsewhere."""
    return getattr(shell, "get_parent", dict)() or {}


def cell_id(shell: InteractiveShell) -> str | None:
    """The front end's name for the cell that runs, where it tells one (JupyterLab, Notebook, VS Code; Colab)."""
    metadata = parent_message(shell).get("metadata", {})
    found = metadata.get("cellId") or metadata.get("colab", {}).get("cell_id")
    return None if found is None else str(found)


def can_be_clicked(shell: InteractiveShell) -> bool:
    """Whether somebody sits before this request's outputs: nbclient and papermill allow no stdin and name no cell."""
    message = parent_message(shell)
    names_cell = "cellId" in message.get("metadata", {}) or "colab" in message.get("metadata", {})
    return bool(message.get("content", {}).get("allow_stdin", True)) or names_cell


def can_be_asked(shell: InteractiveShell) -> bool:
    """Whether somebody can type an answer now: at a terminal, or in a front end that allows this request to ask."""
    if getattr(shell, "kernel", None) is None:
        return sys.stdin is not None and sys.stdin.isatty()
    return bool(parent_message(shell).get("content", {}).get("allow_stdin"))


@contextmanager
def interruptible() -> Iterator[None]:
    """In the main thread: an interrupt is a KeyboardInterrupt, also in a cell that awaits.

    There ipykernel turns it into a cancellation, which comes when the cell next awaits: never, while a prompt waits.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def is_watched(shell: InteractiveShell) -> bool:
    """Whether what is displayed now is seen while it changes: it is not captured, and somebody sits before it."""
    return not isinstance(shell.display_pub, CapturingDisplayPublisher) and can_be_clicked(shell)


def abort_queue(shell: InteractiveShell) -> None:
    """Have the cells that are queued behind a failing one aborted, also those that jupyter-ui-poll holds back.

    ipykernel aborts what it finds for `stop_on_error_timeout` seconds; with 0, its usual value before 7,
    cells that come back from jupyter-ui-poll's hands ran. And jupyter-ui-poll answers an aborted cell
    without saying that the kernel is idle again, so a front end would show the cell as running for
    ever. Both are put back before the next cell.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None or not hasattr(kernel, "stop_on_error_timeout") or kernel in _ABORTING:
        return
    usual, send_abort_reply = kernel.stop_on_error_timeout, kernel._send_abort_reply
    polled = _needs_polling()

    def reply_and_say_idle(stream: Any, parent: dict[str, Any], ident: Any) -> None:
        send_abort_reply(stream, parent, ident)
        kernel._publish_status("idle", "shell", parent)

    def restore() -> None:
        shell.events.unregister("pre_execute", restore)
        _ABORTING.remove(kernel)
        kernel.stop_on_error_timeout = usual
        if polled:
            del kernel._send_abort_reply

    _ABORTING.append(kernel)
    kernel.stop_on_error_timeout = max(usual, 0.2)
    if polled:
        kernel._send_abort_reply = reply_and_say_idle
    shell.events.register("pre_execute", restore)


def short_interrupt(said: str = "the agent was stopped; what had arrived is kept") -> KeyboardInterrupt:
    """A KeyboardInterrupt that IPython shows in one line."""
    interrupt = KeyboardInterrupt(said)
    interrupt._render_traceback_ = lambda: ["KeyboardInterrupt"]  # type: ignore[attr-defined]
    return interrupt
