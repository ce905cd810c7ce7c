"""``%%agent`` and ``%agent``.

A cell: its line becomes options, its text a prompt, the agent begins, the result is bound, and from
then on the cell only paints and waits. All that is heavy is imported at the first call, so that
loading the extension costs next to nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from threading import Event
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from agent_magic._cell import AwaitedCells, Clicks, abort_queue, is_watched
from agent_magic._options import Options, help_text, parse_options
from agent_magic._verbs import manage, verbs_text

if TYPE_CHECKING:
    from agent_magic._agent import Agent
    from agent_magic._run import Run
    from agent_magic._template import Filled
    from agent_magic.views._base import Caption, View

__all__ = ["AgentMagics", "load", "unload"]


def load(shell: InteractiveShell) -> None:
    """Register the magics; loading twice is loading once."""
    if "AgentMagics" not in shell.magics_manager.registry:
        magics = AgentMagics(shell)
        shell.register_magics(magics)
        magics.cells.install()


def unload(shell: InteractiveShell) -> None:
    """Take the magics and the transformer out."""
    magics = shell.magics_manager.registry.pop("AgentMagics", None)
    if isinstance(magics, AgentMagics):
        magics.cells.remove()
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("agent", None)


@magics_class
class AgentMagics(Magics):
    """The two magics."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._ip = shell
        self.cells = AwaitedCells(shell)

    @no_var_expand
    @line_cell_magic
    def agent(self, line: str, cell: str | None = None) -> object:
        """Ask an agent (``%%agent``), or look after the agents (``%agent``)."""
        if cell is None:
            return manage(line, self._ip)
        awaited, line = self.cells.split(line)
        question = _Question(self._ip, parse_options(line), self.cells.typed_body(line, cell))
        return question.answer(awaited=awaited)


AgentMagics.agent.__doc__ = f"{AgentMagics.agent.__doc__}\n\n{verbs_text()}\n\n{help_text()}"


class _Question:
    """One ``%%agent`` cell on its way from text to result."""

    def __init__(self, shell: InteractiveShell, options: Options, text: str) -> None:
        self._shell = shell
        self._options = options
        self._text = text

    def answer(self, *, awaited: bool) -> Awaitable[None] | None:
        """Ask, paint and wait; awaited, this returns at once with what is to be awaited."""
        from agent_magic._agent import Agent
        from agent_magic.views._base import Caption

        options = self._options
        agent = Agent(options.agent, **_settings(options))
        filled = self._fill(agent.config.max_value)
        if options.dry_run:
            show_request(agent, filled, options.parameters)
            return _nothing() if awaited else None
        result, run = agent.begin(filled.text, options.parameters)
        for name in filter(None, ("_agent", options.out)):
            self._shell.user_ns[name] = result
        try:
            caption = Caption(run, options.out or "_agent", filled.cuts())
            view = self._view(run, agent, caption, awaited=awaited)
        except BaseException:
            run.stop()
            raise
        if awaited:
            return self._await(run, view)
        self._block(run, view)
        return None

    def _fill(self, budget: int) -> Filled:
        from agent_magic._template import Filled, fill

        if self._options.raw:
            return Filled(self._text)
        # What IPython puts among a person's names reads files and runs commands: no prompt needs it.
        hidden = self._shell.user_ns_hidden
        names = {
            name: value
            for name, value in self._shell.user_ns.items()
            if not (callable(value) and hidden.get(name) is value)
        }
        return fill(self._text, names, budget)

    def _view(self, run: Run, agent: Agent, caption: Caption, *, awaited: bool) -> View:
        if self._options.quiet:
            from agent_magic.views.plain import QuietView

            return QuietView()
        if getattr(self._shell, "kernel", None) is not None:
            return self._notebook_view(run, caption, images=agent.config.images, awaited=awaited)
        return _console_view(run, caption)

    def _notebook_view(self, run: Run, caption: Caption, *, images: bool, awaited: bool) -> View:
        from agent_magic.views.notebook import HeadlessView, NotebookView

        if not is_watched(self._shell):
            return HeadlessView(run, caption, images=images)
        return NotebookView(run, caption, images=images, button=awaited)

    async def _await(self, run: Run, view: View) -> None:
        """Paint and wait in a cell that awaits. An interrupt arrives here as a cancellation."""
        news = asyncio.Event()
        forget = run.notify(news)
        interrupted = False
        clicks = Clicks(self._shell)
        try:
            view.open()
            async with clicks:
                while not run.is_over:
                    news.clear()
                    await clicks.wait(news, view.show())
        except (asyncio.CancelledError, KeyboardInterrupt):
            interrupted = True
        finally:
            forget()
            self._end(run, view)
            if run.transcript.status == "stopped":
                clicks.settle()
        self._raise(run, interrupted=interrupted)

    def _block(self, run: Run, view: View) -> None:
        """Paint and wait in a cell that blocks. An interrupt arrives here as a KeyboardInterrupt."""
        news = Event()
        forget = run.listen(news.set)
        interrupted = False
        try:
            view.open()
            while not run.is_over:
                news.clear()
                news.wait(view.show())
        except KeyboardInterrupt:
            interrupted = True
        finally:
            forget()
            self._end(run, view)
        self._raise(run, interrupted=interrupted)

    def _end(self, run: Run, view: View) -> None:
        run.stop("interrupted")  # does nothing to a run that has ended
        try:
            run.wait()
        finally:  # also after a second Ctrl-C
            view.close()

    def _raise(self, run: Run, *, interrupted: bool) -> None:
        error = run.transcript.error
        if interrupted:
            abort_queue(self._shell)
            raise _short_interrupt()
        if run.transcript.status == "failed" and error is not None:
            abort_queue(self._shell)
            raise error


def _settings(options: Options) -> dict[str, Any]:
    named = {"timeout": options.timeout, "max_time": options.max_time, "retries": options.retries}
    return {name: value for name, value in named.items() if value is not None}


async def _nothing() -> None:
    pass


def _short_interrupt() -> KeyboardInterrupt:
    """A KeyboardInterrupt that IPython shows in one line."""
    interrupt = KeyboardInterrupt("the agent was stopped; what had arrived is kept")
    interrupt._render_traceback_ = lambda: ["KeyboardInterrupt"]  # type: ignore[attr-defined]
    return interrupt


def _console_view(run: Run, caption: Caption) -> View:
    if sys.stdout.isatty():
        try:
            from agent_magic.views.terminal import TerminalView
        except ImportError:  # rich is not installed
            pass
        else:
            return TerminalView(run, caption)
    from agent_magic.views.plain import PlainView

    return PlainView(run, caption)


def show_request(agent: Agent, filled: Filled, parameters: dict[str, Any]) -> None:
    """Print the request for a prompt as it would stand on the wire, the key struck out, and what was put into it."""
    import msgspec

    from agent_magic._keys import Secret, strike_all

    request = agent.request(filled.text, parameters)
    secrets = [value for value in request.headers.values() if isinstance(value, Secret)]
    body = strike_all(msgspec.json.format(request.encoded_body(), indent=2).decode(), secrets)
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    size = f"{len(request.encoded_body()):,} bytes, not sent."
    told = "\n".join([size, *(strike_all(str(put), secrets) for put in filled.put)])
    print(f"{request.method} {request.url}\n{headers}\n\n{body}\n\n{told}")  # noqa: T201
