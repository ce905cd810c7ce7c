"""``%%agent`` and ``%agent``.

A cell: its line becomes options, its text a prompt, the agent begins, the result is bound, and from
then on the cell only paints and waits. All that is heavy is imported at the first call, so that
loading the extension costs next to nothing.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Awaitable
from contextlib import aclosing
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import TraitError

from agent_magic._cell import (
    AwaitedCells,
    Clicks,
    abort_queue,
    can_be_asked,
    cell_id,
    interruptible,
    is_watched,
    parent_message,
)
from agent_magic._completion import Completion
from agent_magic._options import Options, parse_options
from agent_magic._overrides import forget_overrides
from agent_magic._prompt import ask_with
from agent_magic._slips import Slips
from agent_magic._traits import Agents, Amount, Flag, Name, Number, Seconds, ShellSettings
from agent_magic._verbs import help_page, manage
from agent_magic.errors import ConfigError

if TYPE_CHECKING:
    from agent_magic._agent import Agent, Earlier
    from agent_magic._keys import Secret
    from agent_magic._result import AgentResult
    from agent_magic._run import Run
    from agent_magic._sessions import Conversation
    from agent_magic._template import Filled
    from agent_magic.views._base import Caption, View
    from agent_magic.views._beside import Placeholder

__all__ = ["AgentMagics", "load", "unload"]

T = TypeVar("T")


def load(shell: InteractiveShell) -> None:
    """Register the magics; loading twice is loading once. Raises `ConfigError` for what IPython's settings hold."""
    if "AgentMagics" in shell.magics_manager.registry:
        return
    try:
        magics = AgentMagics(shell)
    except TraitError as error:
        _forget(shell)
        raise ConfigError(f"In IPython's settings, {error}") from None
    shell.register_magics(magics)
    magics.install()
    ask_with(magics.ask_hidden)


def unload(shell: InteractiveShell) -> None:
    """Take the magics and the transformer out, and forget what was said and typed for this session."""
    magics = shell.magics_manager.registry.pop("AgentMagics", None)
    if isinstance(magics, AgentMagics):
        magics.remove()
        magics.settings.restore()
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("agent", None)
        _forget(shell)


def _forget(shell: InteractiveShell) -> None:
    shell.configurables[:] = [one for one in shell.configurables if not isinstance(one, AgentMagics)]
    ask_with(None)
    forget_overrides()
    if "agent_magic._key_sources" in sys.modules:  # else nothing is held
        from agent_magic._key_sources import forget_keys

        forget_keys()


@magics_class
class AgentMagics(Magics):
    """``%%agent`` and ``%agent``. What is set here holds for all agents, for this session: above the files and the
    environment, below the cell's own line. None is what stands below.
    """

    default = Name(help="The agent that is asked without a name; `%agent use NAME` sets it, too.")
    timeout = Seconds(help="The longest silence, in seconds, before the connection counts as lost (else 60).")
    max_time = Seconds(help="The longest that a whole run may take, in seconds (else no limit).")
    retries = Number(help="Reconnections in a row without progress (else 3).")
    backoff = Seconds(help="Seconds before the first reconnection, doubled each time (else 2).")
    max_wait = Seconds(help="The longest wait, in seconds, that a server may ask for (else 120).")
    max_value = Number(help="The most characters that one {{ }} puts into a prompt (else 30,000).")
    max_cost = Amount(help="The most that one run may cost, by the agent's own price.")
    images = Flag(help="True lets the images of answers through.")
    journal = Flag(help="False writes no run down.")
    agents = Agents(
        help="Agents of your own by name, each described wholly, as in a file: "
        '{"mine": {"protocol": "you", "agent": "advanced", "key_env": "YDC_API_KEY"}}.'
    )

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.ip = shell
        self.cells = AwaitedCells(shell)
        self.settings = ShellSettings(shell)
        self.background: dict[str, Run] = {}
        self._placeholders: list[Placeholder] = []
        self._additions = (self.cells, Slips(shell), Completion(shell))

    def install(self) -> None:
        """Begin to look at cells."""
        for addition in self._additions:
            addition.install()
        self.ip.events.register("post_run_cell", self._settle)

    def remove(self) -> None:
        """Leave the shell as it was."""
        for addition in self._additions:
            addition.remove()
        self.ip.events.unregister("post_run_cell", self._settle)

    def ask_hidden(self, prompt: str) -> Secret | None:
        """What is typed at `prompt`, which nobody sees; None where nobody can type."""
        if not can_be_asked(self.ip):
            return None
        import getpass

        from agent_magic._keys import Secret

        try:
            with interruptible(), warnings.catch_warnings():
                warnings.simplefilter("error", getpass.GetPassWarning)  # a terminal that would show it
                return Secret(getpass.getpass(prompt).strip())
        except EOFError:
            return Secret("")
        except KeyboardInterrupt:
            raise _short_interrupt() from None
        except getpass.GetPassWarning:
            return None

    @no_var_expand
    @line_cell_magic
    def agent(self, line: str, cell: str | None = None) -> object:
        """Ask an agent (``%%agent``), or look after the agents (``%agent``)."""
        awaited, line = self.cells.split(line)
        if cell is None:
            return _examined(self.ip) if awaited else manage(line, self.ip)
        options = parse_options(line)
        if options.help:
            return _given(help_page()) if awaited else help_page()
        return _Question(self, options, self.cells.typed_body(line, cell)).answer(awaited=awaited)

    def go_on_beside(self, run: Run, view: View | Placeholder | None, cell: str | None) -> None:
        """Have `run` go on when its cell has ended, shown by `view`; running that cell again stops it."""
        from agent_magic.views._beside import Placeholder, paint_beside

        if cell is not None:
            self.background[cell] = run
        if view is None:
            return
        view.open()
        if isinstance(view, Placeholder):
            self._placeholders.append(view)
        else:
            paint_beside(run, view)

    def _settle(self, _result: object = None) -> None:
        """At a cell's end: put the answers that are there into the cells whose executor hears nothing else."""
        self._placeholders = [one for one in self._placeholders if not one.settle()]


AgentMagics.agent.__doc__ = help_page().text


class _Question:
    """One ``%%agent`` cell on its way from text to result."""

    def __init__(self, magics: AgentMagics, options: Options, text: str) -> None:
        from agent_magic._agent import Agent

        self._magics = magics
        self._shell = magics.ip
        self._options = options
        self._text = text
        self._cell = cell_id(self._shell)
        self._agent = Agent(options.agent, **_settings(options))
        self._conversation = self._named_conversation()

    def answer(self, *, awaited: bool) -> Awaitable[None] | None:
        """Ask, paint and wait; awaited, this returns at once with what is to be awaited."""
        former = self._magics.background.get(self._cell or "")
        if former is not None:
            former.stop()
        if awaited:
            return self._await()
        for name, result in self._needed():
            self._wait_for(name, result)
        asked = self._begin(awaited=False)
        if asked is not None:
            self._block(*asked)
        return None

    def _named_conversation(self) -> Conversation | None:
        from agent_magic._sessions import conversation

        options = self._options
        return None if options.session is None else conversation(options.session, new=options.new)

    def _needed(self) -> list[tuple[str, AgentResult]]:
        """The results that are still growing, and that this prompt or its conversation needs."""
        from agent_magic._template import names_in

        names = set() if self._options.raw else names_in(self._text)
        found = [(name, one) for name in sorted(names) for one in _growing(self._shell.user_ns.get(name))]
        if self._conversation is not None:
            found += [(f"session {self._conversation.name}", one) for one in self._conversation.running(self._cell)]
        return found

    def _begin(self, *, awaited: bool) -> tuple[Run, View] | None:
        """Send the question and bind the result; None where there is nothing to wait for."""
        from agent_magic._agent import ALONE
        from agent_magic._sessions import remember
        from agent_magic.views._base import Caption

        options, agent = self._options, self._agent
        filled = self._fill(agent.config.max_value)
        place = None if self._conversation is None else self._conversation.place(agent, self._cell)
        earlier = ALONE if place is None else place.earlier
        if options.dry_run:
            show_request(agent, filled, options.parameters, earlier)
            return None
        result, run = agent.begin(filled.text, options.parameters, earlier)
        for name in filter(None, ("_agent", options.out)):
            self._shell.user_ns[name] = result
        if self._conversation is not None and place is not None:
            self._conversation.put(place, agent, self._cell, result)
            remember(self._conversation)
        try:
            notes = () if place is None else place.notes
            caption = Caption(run, options.out or "_agent", filled.cuts(), notes, says_error=options.background)
            if options.background:
                self._magics.go_on_beside(run, self._background_view(run, caption), self._cell)
                return None
            return run, self._view(run, caption, awaited=awaited)
        except BaseException:
            run.stop()
            raise

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

    def _view(self, run: Run, caption: Caption, *, awaited: bool) -> View:
        if self._options.quiet:
            from agent_magic.views.plain import QuietView

            return QuietView()
        if not self._has_page():
            return _console_view(run, caption)
        from agent_magic.views.notebook import HeadlessView, NotebookView

        images = self._agent.config.images
        if not is_watched(self._shell):
            return HeadlessView(run, caption, images=images)
        return NotebookView(run, caption, images=images, button=awaited)

    def _background_view(self, run: Run, caption: Caption) -> View | Placeholder | None:
        """What shows a run whose cell has ended; in a terminal, and where nothing is to be shown, nothing."""
        if self._options.quiet:
            return None
        if not self._has_page():
            print(f"{caption.agent} is asked in the background; the answer will be in {caption.variable}.")  # noqa: T201
            return None
        images = self._agent.config.images
        if not is_watched(self._shell):
            from agent_magic.views._beside import Placeholder

            return Placeholder(run, caption, images=images)
        from agent_magic.views._place import There
        from agent_magic.views.notebook import NotebookView

        there = There(self._shell.display_pub, parent_message(self._shell))
        return NotebookView(run, caption, there, images=images, button=True)

    def _has_page(self) -> bool:
        return getattr(self._shell, "kernel", None) is not None

    async def _await(self) -> None:
        """Wait for what is needed, ask, paint and wait, in a cell that awaits. An interrupt is a cancellation here."""
        for name, result in self._needed():
            await self._wait_for_awaiting(name, result)
        asked = self._begin(awaited=True)
        if asked is None:
            return
        run, view = asked
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

    def _wait_for(self, name: str, result: AgentResult) -> None:
        """Wait for another cell's run, which an interrupt leaves alone."""
        self._say_waiting(name, result)
        try:
            result.wait()
        except KeyboardInterrupt:
            abort_queue(self._shell)
            raise _short_interrupt() from None

    async def _wait_for_awaiting(self, name: str, result: AgentResult) -> None:
        self._say_waiting(name, result)
        try:
            async with Clicks(self._shell) as clicks, aclosing(result.changes()) as changes:
                async for news in changes:
                    await clicks.wait(news, 1.0)
        except (asyncio.CancelledError, KeyboardInterrupt):
            abort_queue(self._shell)
            raise _short_interrupt() from None

    def _say_waiting(self, name: str, result: AgentResult) -> None:
        """Say what the cell waits for; in a notebook that is watched the answer takes its place."""
        said = f"waiting for {name}, which {result.agent} is still writing"
        if self._options.quiet:
            return
        if self._has_page() and is_watched(self._shell):
            from agent_magic.views.notebook import show_note

            show_note(said)
        elif not self._has_page():
            print(said, file=sys.stderr)  # noqa: T201

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


def _growing(value: object) -> list[AgentResult]:
    """The results in `value`, itself or a collection of them, that have not ended."""
    from agent_magic._result import AgentResult

    some = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return [one for one in some if isinstance(one, AgentResult) and one.status == "running"]


def _settings(options: Options) -> dict[str, Any]:
    named = {name: getattr(options, name) for name in ("timeout", "max_time", "retries", "tape")}
    return {name: value for name, value in named.items() if value is not None}


async def _given(value: T) -> T:
    return value


async def _examined(shell: InteractiveShell) -> object:
    """What ``%agent doctor`` shows in a cell that awaits."""
    from agent_magic._doctor import examine_awaiting

    try:
        return await examine_awaiting(shell)
    except asyncio.CancelledError:
        raise _short_interrupt("the examination was stopped") from None


def _short_interrupt(said: str = "the agent was stopped; what had arrived is kept") -> KeyboardInterrupt:
    """A KeyboardInterrupt that IPython shows in one line."""
    interrupt = KeyboardInterrupt(said)
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


def show_request(agent: Agent, filled: Filled, parameters: dict[str, Any], earlier: Earlier | None = None) -> None:
    """Print the request for a prompt as it would stand on the wire, the key struck out, and what was put into it."""
    import msgspec

    from agent_magic._agent import ALONE
    from agent_magic._keys import Secret, strike_all

    request = agent.request(filled.text, parameters, earlier or ALONE)
    secrets = [value for value in request.headers.values() if isinstance(value, Secret)]
    body = strike_all(msgspec.json.format(request.encoded_body(), indent=2).decode(), secrets)
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    size = f"{len(request.encoded_body()):,} bytes, not sent."
    missing = [f"There is no key yet: {agent.key_variable} is not set."] if any(one.is_empty for one in secrets) else []
    told = "\n".join([size, *missing, *(strike_all(str(put), secrets) for put in filled.put)])
    print(f"{request.method} {request.url}\n{headers}\n\n{body}\n\n{told}")  # noqa: T201
