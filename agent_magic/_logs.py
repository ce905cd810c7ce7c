"""What libraries log of a run, without the keys of that run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar

from agent_magic._keys import Secret, strike_all

__all__ = ["hidden", "hide", "strike_logs"]

_SECRETS: ContextVar[Sequence[Secret]] = ContextVar("secrets", default=())


class _StruckLog(logging.Filter):
    """Strikes the keys of the run that logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if secrets := hidden():
            record.msg, record.args = strike_all(record.getMessage(), secrets), None
        return True


_STRUCK = _StruckLog()


def strike_logs(*names: str) -> None:
    """Let these loggers tell no key; a filter on a parent would not see what its children log."""
    for name in names:
        logging.getLogger(name).addFilter(_STRUCK)


def hide(secrets: Sequence[Secret]) -> None:
    """Let nothing that is logged from here on, in this task and what it begins, hold one of `secrets`."""
    _SECRETS.set(secrets)


def hidden() -> Sequence[Secret]:
    """What is hidden here."""
    return _SECRETS.get()
