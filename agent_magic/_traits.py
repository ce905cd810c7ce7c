"""The settings that ``%config AgentMagics`` shows and takes. Their one store is `_overrides`."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from traitlets import HasTraits, TraitError, TraitType

from agent_magic._overrides import override, overrides
from agent_magic.errors import ConfigError

__all__ = ["Agents", "Amount", "Flag", "Name", "Number", "Seconds", "ShellSettings"]


SECTION = "AgentMagics"


class ShellSettings:
    """What IPython's own settings say of the magics. ``%config`` writes there, too, also what the magics refused."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._before = deepcopy(shell.config.get(SECTION))

    def restore(self) -> None:
        """Leave them as they were, so that loading anew is not held up by what was said before."""
        config = self._shell.config  # a new one since each %config
        config.pop(SECTION, None)
        if self._before is not None:
            config[SECTION] = self._before


class _Setting(TraitType[Any, Any]):
    """None is what stands below: the environment's value, or the file's."""

    default_value = None

    def __init__(self, help: str) -> None:  # noqa: A002 (traitlets' own name)
        super().__init__(None, allow_none=True, help=help, config=True)

    def validate(self, obj: HasTraits, value: Any) -> Any:  # noqa: ARG002 (as traitlets calls it)
        # What checks imports the serializer, which nobody who only loads the extension is to wait for.
        from agent_magic._layers import checked_override

        try:
            return checked_override(str(self.name), value)
        except ConfigError as error:
            raise TraitError(str(error)) from None

    def get(self, obj: HasTraits, cls: type[Any] | None = None) -> Any:  # noqa: ARG002 (as traitlets calls it)
        return overrides().get(str(self.name))

    def set(self, obj: HasTraits, value: Any) -> None:
        override(str(self.name), self._validate(obj, value))


class Name(_Setting):
    """An agent's name."""


class Seconds(_Setting):
    """A time."""


class Number(_Setting):
    """A whole number."""


class Amount(_Setting):
    """An amount of money."""


class Flag(_Setting):
    """True or False."""


class Agents(_Setting):
    """Whole agents, by name."""

    def get(self, obj: HasTraits, cls: type[Any] | None = None) -> Any:
        """The agents as they may be shown: `%config` prints them, and a header's value may be a key."""
        return {name: _shown(table) for name, table in (super().get(obj, cls) or {}).items()}


def _shown(table: object) -> object:
    if not isinstance(table, dict) or not isinstance(table.get("headers"), dict):
        return table
    return {**table, "headers": dict.fromkeys(table["headers"], "***")}
