"""An AG-UI agent in a real kernel: cells that ask it, and a session that is one thread of it."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.kernel._kernel import running_kernel
from tests.protocols._ag_ui_peer import ANSWER, Peer


def test_cells(tmp_path: Path) -> None:
    """Named by its endpoint alone, it answers; a session's second cell has the thread and the words of the first."""
    with Peer().serving() as peer:
        (tmp_path / "agent_magic.toml").write_text(
            f'[agents.sky]\nprotocol = "ag-ui"\nbase_url = "{peer.url}"\nsystem = "Be brief."\n'
        )
        with running_kernel(Path(sys.executable), tmp_path) as kernel:
            kernel.run("%load_ext agent_magic")
            for cell_id, prompt in (("a", "One?"), ("b", "Two?")):
                cell = kernel.send(f"%%agent sky -s talk -p mood=good\n{prompt}", cell_id=cell_id)
                kernel.wait_for(cell)
                assert (cell.status, kernel.evaluate("_agent.text == " + repr(ANSWER))) == ("ok", "True")
            alone = kernel.run("%%agent sky\nAlone?")
            assert alone.status == "ok"
            lost = kernel.run("from agent_magic import Agent\nAgent(protocol='ag-ui').ask('Why?')")
    one, two, three = peer.inputs
    assert [message.content for message in two.messages] == [
        "Be brief.",
        "One?",
        "Because é 🌍 so.",
        "Rayleigh",
        "See **Rayleigh**.",
        "Two?",
    ]
    assert (one.thread_id, one.messages) == (two.thread_id, two.messages[:2])
    assert one.run_id != two.run_id
    assert (three.thread_id != one.thread_id, [message.content for message in three.messages]) == (
        True,
        ["Be brief.", "Alone?"],
    )
    assert (two.forwarded_props, three.forwarded_props) == ({"mood": "good"}, {})
    assert lost.error["evalue"].startswith("The agent 'ag-ui' speaks ag-ui, which has no address of its own")
