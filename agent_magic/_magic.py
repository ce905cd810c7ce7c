"""``%%agent`` and ``%agent`` in a shell: put in, taken out, and handed on.

All that is heavy is imported at the first call, so that loading the extension costs next to nothing.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from typing import TYPE_CHECKING, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import TraitError

from agent_magic._background import Background
from agent_magic._cell import AwaitedCells, can_be_asked, interruptible, short_interrupt
from agent_magic._completion import Completion
from agent_magic._options import parse_options
from agent_magic._overrides import forget_overrides
from agent_magic._prompt import ask_with
from agent_magic._question import Question
from agent_magic._slips import Slips
from agent_magic._traits import Agents, Amount, Flag, Name, Number, Seconds, ShellSettings
from agent_magic._verbs import help_page, manage
from agent_magic.errors import ConfigError

if TYPE_CHECKING:
    from agent_magic._keys import Secret

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
        self._ip = shell
        self.cells = AwaitedCells(shell)
        self.settings = ShellSettings(shell)
        self._background = Background(shell)
        self._additions = (self.cells, Slips(shell), Completion(shell), self._background)

    def install(self) -> None:
        """Begin to look at cells."""
        for addition in self._additions:
            addition.install()

    def remove(self) -> None:
        """Leave the shell as it was."""
        for addition in self._additions:
            addition.remove()

    def ask_hidden(self, prompt: str) -> Secret | None:
        """What is typed at `prompt`, which nobody sees; None where nobody can type."""
        if not can_be_asked(self._ip):
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
            raise short_interrupt() from None
        except getpass.GetPassWarning:
            return None

    @no_var_expand
    @line_cell_magic
    def agent(self, line: str, cell: str | None = None) -> object:
        """Ask an agent (``%%agent``), or look after the agents (``%agent``)."""
        awaited, line = self.cells.split(line)
        if cell is None:
            return _examined(self._ip) if awaited else manage(line, self._ip)
        options = parse_options(line)
        if options.help:
            return _given(help_page()) if awaited else help_page()
        question = Question(self._ip, self._background, options, self.cells.typed_body(line, cell))
        return question.answer(awaited=awaited)


AgentMagics.agent.__doc__ = help_page().text


async def _given(value: T) -> T:
    return value


async def _examined(shell: InteractiveShell) -> object:
    """What ``%agent doctor`` shows in a cell that awaits."""
    from agent_magic._doctor import examine_awaiting

    try:
        return await examine_awaiting(shell)
    except asyncio.CancelledError:
        raise short_interrupt("the examination was stopped") from None
