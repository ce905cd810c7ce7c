"""The table of properties, with 100,000 examples in all, the same in each run; and each failure that it found."""

from __future__ import annotations

import pytest

from tests.fuzz._properties import PROPERTIES, Property


def test_there_are_enough() -> None:
    """The shares are of 100,000."""
    assert sum(one.share for one in PROPERTIES) == 100_000


@pytest.mark.parametrize("one", PROPERTIES, ids=lambda one: one.name)
def test_holds(one: Property) -> None:
    """A property holds for its share of the examples."""
    one.try_out(one.share, derandomize=True)
