"""How a question uses tapes: the words for it."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["MODES", "Mode"]

# Asked; asked and recorded; answered by a tape; answered by a tape where there is one, else asked and recorded.
Mode = Literal["live", "record", "replay", "auto"]
MODES: tuple[Mode, ...] = get_args(Mode)
