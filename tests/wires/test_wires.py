"""The README's table of wires is what their contract suites find."""

from __future__ import annotations

from agent_magic.protocols import BUILT_IN
from tests.wires.__main__ import PLACE, README, contracts, table


def test_every_wire_has_its_contract_suite() -> None:
    """None is built in that does not keep the contract."""
    assert sorted(contracts()) == sorted(BUILT_IN)


def test_the_table() -> None:
    """What the README says of the wires is what the command finds; it says how to fill it anew."""
    found = PLACE.search(README.read_text())
    assert found is not None
    assert found[0] == f"{found[1]}{table()}{found[2]}"
