"""What ``%config AgentMagics`` says, for as long as the extension is loaded.

The one store of it: the traits of the magics read it and write it. It imports nothing, for ``%load_ext`` comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["forget_overrides", "override", "overrides"]

_SAID: dict[str, Any] = {}


def override(name: str, value: Any) -> None:
    """From now on the setting `name` is `value`, which has been checked; None takes back what was said."""
    if value is None:
        _SAID.pop(name, None)
    else:
        _SAID[name] = value


def overrides() -> Mapping[str, Any]:
    """What is said now, by setting."""
    return MappingProxyType(_SAID)


def forget_overrides() -> None:
    """Nothing is said any more."""
    _SAID.clear()
