"""One ``%%agent`` cell on its way from text to result.

Its text becomes a prompt, the agent begins, the result is bound, and from then on the cell only paints and waits:
in a loop where the cell awaits, and blocking where it does not. A cell in the background does not even that.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_magic._cell import Clicks, abort_queue, cell_id, is_watched, parent_message, short_interrupt
from agent_magic._options import Options
from agent_magic.errors import PromptError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agent_magic._agent import Agent
    from agent_magic._background import Background
    from agent_magic._request import Earlier
    from agent_magic._result import AgentResult
    from agent_magic._run import Run
    from agent_magic._sessions import Conversation, Place
    from agent_magic._template import Filled
    from agent_magic.views._base import Caption, View
    from agent_magic.views._beside import Ending, Placeholder

__all__ = ["Question", "show_request"]


class _Needed(NamedTuple):
    """A result that a cell has to wait for, as people name it: `is_put_in` its prompt, or a turn before its own."""

    name: str
    result: AgentResult
    is_put_in: bool

    def check(self) -> None:
        """Raise `PromptError` where what goes into the prompt came to nothing: half an answer is none to build on."""
        if self.is_put_in and self.result.status == "failed":
            raise PromptError(
                f"{self.name}, which this prompt uses, failed, and nothing was sent. Run its cell again; to go on with "
                f"what had arrived of it, run this one again. It had said: {self.result.error}"
            )


class Question:
    """One ``%%agent`` cell on its way from text to result."""

    def __init__(self, shell: InteractiveShell, background: Background, options: Options, text: str) -> None:
        from agent_magic._agent import Agent

        self._shell = shell
        self._background = background
        self._options = options
        self._text = text
        self._cell = cell_id(self._shell)
        self._agent = Agent(options.agent, **_settings(options))
        self._conversation = self._named_conversation()

    def answer(self, *, awaited: bool) -> Awaitable[None] | None:
        """Ask, paint and wait; awaited, this returns at once with what is to be awaited."""
        if awaited:
            return self._await()
        for needed in self._needed():
            self._wait_for(needed)
        asked = self._begin(awaited=False)
        if asked is not None:
            self._block(*asked)
        return None

    def _named_conversation(self) -> Conversation | None:
        from agent_magic._sessions import conversation

        options = self._options
        return None if options.session is None else conversation(options.session, new=options.new)

    def _needed(self) -> list[_Needed]:
        """The results that are still growing, and that this prompt or its conversation needs."""
        from agent_magic._template import names_in

        names = set() if self._options.raw else names_in(self._text)
        found = [
            _Needed(name, one, is_put_in=True)
            for name in sorted(names)
            for one in _growing(self._shell.user_ns.get(name))
        ]
        if self._conversation is not None:
            name = f"session {self._conversation.name}"
            found += [_Needed(name, one, is_put_in=False) for one in self._conversation.running(self._cell)]
        return found

    def _begin(self, *, awaited: bool) -> tuple[Run, View] | None:
        """Send the question and bind the result; None where there is nothing to wait for."""
        from agent_magic._sessions import remember
        from agent_magic.views._base import Caption

        options, agent = self._options, self._agent
        filled = self._fill(agent.config.max_value)
        place = self._place()
        if options.dry_run:
            show_request(agent, filled, options.parameters, place.earlier)
            return None
        ask = agent.prepare(filled.text, options.parameters, place.earlier)
        # Nothing is wrong with the question, so it takes the place of what this cell asked before.
        if self._background.stop_former(self._cell):
            place = self._place()
            ask = agent.prepare(filled.text, options.parameters, place.earlier)
        result, run = agent.asking()(ask, place.earlier)
        for name in filter(None, ("_agent", options.out)):
            self._shell.user_ns[name] = result
        notes: list[str] = []
        if self._conversation is not None:
            notes = self._conversation.put(place, agent, self._cell, result)
            remember(self._conversation)
        try:
            caption = Caption(run, options.out or "_agent", filled.cuts(), notes, says_error=options.background)
            if options.background:
                self._background.go_on(run, self._background_view(run, caption), self._cell)
                return None
            return run, self._view(run, caption, awaited=awaited)
        except BaseException:
            run.stop()
            raise

    def _place(self) -> Place:
        """Where in its conversation the turn goes; without one it stands alone."""
        from agent_magic._request import ALONE
        from agent_magic._sessions import Place

        return (
            Place(0, None, ALONE) if self._conversation is None else self._conversation.place(self._agent, self._cell)
        )

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

    def _background_view(self, run: Run, caption: Caption) -> View | Placeholder | Ending | None:
        """What shows a run whose cell has ended: where it has an output, that; in a terminal its end in a line."""
        from agent_magic.views._beside import Ending

        quiet = self._options.quiet
        if not self._has_page():
            if not quiet:
                print(f"{caption.agent} is asked in the background; the answer will be in {caption.variable}.")  # noqa: T201
            return Ending(run, caption, quiet=quiet)
        images = self._agent.config.images
        if not is_watched(self._shell):
            from agent_magic.views._beside import Placeholder

            return None if quiet else Placeholder(run, caption, images=images)
        from agent_magic.views._place import There
        from agent_magic.views.notebook import FailureView, NotebookView

        there = There(self._shell.display_pub, parent_message(self._shell))
        if quiet:
            return FailureView(run, caption, there, images=images)
        return NotebookView(run, caption, there, images=images, button=True)

    def _has_page(self) -> bool:
        return getattr(self._shell, "kernel", None) is not None

    async def _await(self) -> None:
        """Wait for what is needed, ask, paint and wait, in a cell that awaits. An interrupt is a cancellation here."""
        for needed in self._needed():
            await self._wait_for_awaiting(needed)
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
        self._raise(run, interrupted=interrupted)

    def _block(self, run: Run, view: View) -> None:
        """Paint and wait in a cell that blocks. An interrupt arrives here as a KeyboardInterrupt."""
        from agent_magic.views._base import watch

        interrupted = False
        try:
            view.open()
            watch(run, view)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._end(run, view)
        self._raise(run, interrupted=interrupted)

    def _wait_for(self, needed: _Needed) -> None:
        """Wait for another cell's run, which an interrupt leaves alone."""
        self._say_waiting(needed)
        try:
            needed.result.wait()
        except KeyboardInterrupt:
            abort_queue(self._shell)
            raise short_interrupt() from None
        needed.check()

    async def _wait_for_awaiting(self, needed: _Needed) -> None:
        self._say_waiting(needed)
        try:
            async with Clicks(self._shell) as clicks, aclosing(needed.result.changes()) as changes:
                async for news in changes:
                    await clicks.wait(news, 1.0)
        except (asyncio.CancelledError, KeyboardInterrupt):
            abort_queue(self._shell)
            raise short_interrupt() from None
        needed.check()

    def _say_waiting(self, needed: _Needed) -> None:
        """Say what the cell waits for; in a notebook that is watched the answer takes its place."""
        said = f"waiting for {needed.name}, which {needed.result.agent} is still writing"
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
            raise short_interrupt()
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

    from agent_magic._keys import strike_all
    from agent_magic._request import ALONE

    request = agent.request(filled.text, parameters, earlier or ALONE)
    secrets = request.secrets
    encoded = request.encoded_body()
    body = strike_all(msgspec.json.format(encoded, indent=2).decode() if encoded else "", secrets)
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    size = f"{len(encoded):,} bytes, not sent."
    missing = [f"There is no key yet: {agent.key_variable} is not set."] if any(one.is_empty for one in secrets) else []
    told = "\n".join([size, *missing, *(strike_all(str(put), secrets) for put in filled.put)])
    print(f"{request}\n{headers}\n\n{body}\n\n{told}")  # noqa: T201
