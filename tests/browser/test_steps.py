"""Thoughts and tools in the page: quiet lines that open, stay open, are saved, and do nothing but that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, Page, expect

from agent_magic.testing import Connection, ScriptedServer, event_stream, head
from tests.browser._corpus import CORPUS, armed
from tests.browser._front_ends import FrontEnd, Site, cell
from tests.browser.test_inert import Hits, hits

__all__ = ["hits"]

LOAD = "%load_ext agent_magic"
SETTINGS = '[agents.it]\nprotocol = "anthropic"\nagent = "claude"\nbase_url = "{url}"\nkey_env = ""\n'


def event(kind: str, **data: Any) -> bytes:
    return event_stream((kind, {"type": kind, **data}))


def block(index: int, kind: str, *deltas: dict[str, Any], **facts: Any) -> bytes:
    opened = event("content_block_start", index=index, content_block={"type": kind, **facts})
    return opened + b"".join(event("content_block_delta", index=index, delta=one) for one in deltas)


def closed(index: int) -> bytes:
    return event("content_block_stop", index=index)


def thought(said: str) -> dict[str, Any]:
    return {"type": "thinking_delta", "thinking": said}


START = event("message_start", message={"id": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}) + event("message_stop")


@contextmanager
def answering(*acts: bytes) -> Iterator[tuple[str, list[threading.Event]]]:
    """A server that sends each of `acts` when its event is set; the first by itself."""
    import anyio.to_thread

    gates = [threading.Event() for _ in acts]
    gates[0].set()

    async def script(connection: Connection) -> None:
        await connection.send(head())
        for gate, act in zip(gates, acts, strict=True):
            await anyio.to_thread.run_sync(gate.wait, 60)
            await connection.send(act)

    with ScriptedServer(script) as server:
        yield server.url, gates
        for gate in gates:
            gate.set()


def asked(page: Page, site: Site, end: FrontEnd, name: str, url: str) -> Locator:
    path = site.write(f"{name}-{end.name}", LOAD, "%%agent it -o answer\nWhy?", "print(answer.status)")
    (path.parent / "agent_magic.toml").write_text(SETTINGS.format(url=url))
    end.open(page, site, path)
    end.run_all(page)
    return cell(page, end, 1)


def test_a_step_that_is_opened_stays_open(site: Site, end: FrontEnd, page: Page) -> None:
    """By keyboard, while it goes on: it stays open and has the focus when it is drawn anew, at the end, and is saved."""
    acts = (
        START + block(0, "thinking", thought("Let me see. ")),
        event("content_block_delta", index=0, delta=thought("I should search. ")),
        closed(0)
        + block(1, "server_tool_use", {"type": "input_json_delta", "partial_json": '{"query": "sky"}'}, id="t", name="search")
        + closed(1),
        block(2, "web_search_tool_result", tool_use_id="t", content=[{"url": "https://example.com/1", "title": "One"}])
        + closed(2)
        + block(3, "text", {"type": "text_delta", "text": "Blue, it is."}, text="")
        + closed(3),
        END,
    )  # fmt: skip
    with answering(*acts) as (url, gates):
        shown = asked(page, site, end, "steps", url)
        first, second = (shown.locator(f"details[data-agent-step='{key}']") for key in (0, 1))
        expect(first.locator("pre")).to_be_hidden()
        expect(first.locator("summary")).to_have_text("thinking…")
        first.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(first.locator("pre")).to_have_text("Let me see. ")
        gates[1].set()
        expect(first.locator("pre")).to_have_text("Let me see. I should search. ")
        expect(first.locator("pre")).to_be_visible()
        expect(first.locator("summary")).to_be_focused()
        gates[2].set()
        expect(second.locator("summary")).to_have_text('search(query="sky")…')
        expect(second.locator("pre")).to_be_hidden()
        gates[3].set()
        expect(second.locator("summary")).not_to_contain_text("…")
        expect(shown.get_by_text("Blue, it is.")).to_be_visible()
        gates[4].set()
        expect(shown.get_by_text("✓ done")).to_be_visible()
        expect(first.locator("pre")).to_be_visible()
        expect(first.locator("summary")).to_be_focused()
        expect(second.locator("pre").first).to_be_hidden()
        second.locator("summary").click()
        expect(second.locator("pre").last).to_contain_text("https://example.com/1")
        expect(cell(page, end, 2).get_by_text("done", exact=True).last).to_be_attached()
    path = site.folder / f"steps-{end.name}" / f"steps-{end.name}.ipynb"
    outputs = end.save(page, path)["cells"][1]["outputs"]
    assert [sorted(output["data"]) for output in outputs] == [
        ["text/markdown", "text/plain"],
        ["text/html", "text/plain"],
    ]
    text = "".join(outputs[1]["data"]["text/plain"])
    assert text.index("I should search.") < text.index('search(query="sky")') < text.index("it · done")
    # A page that is opened anew shows it as an untrusted file, or as a trusted one: both fold.
    end.open(page, site, path)
    expect(first.locator("pre")).to_be_hidden()
    first.locator("summary").click()
    expect(first.locator("pre")).to_be_visible()


def test_steps_do_nothing(site: Site, end: FrontEnd, page: Page, hits: Hits) -> None:
    """The corpus as a thought, a tool's name, its arguments and its result: nothing runs, nothing is fetched."""
    lines = [armed(text, number, hits.url) for number, (_, text) in enumerate(CORPUS)]
    hostile = "\n".join(lines)
    calls = b"".join(
        block(1 + number, "server_tool_use", {"type": "input_json_delta", "partial_json": json.dumps({line: line})},
              id=f"t{number}", name=line)
        + closed(1 + number)
        + block(1001 + number, "web_search_tool_result", tool_use_id=f"t{number}", content=line)
        + closed(1001 + number)
        for number, line in enumerate(lines)
    )  # fmt: skip
    words = block(0, "thinking", thought(hostile)) + closed(0)
    text = block(5000, "text", {"type": "text_delta", "text": "Over."}, text="") + closed(5000)
    scripts: set[int] = set()

    def fired(number: int) -> None:
        scripts.add(number)

    page.expose_function("fired", fired)
    with answering(START + words + calls, text, END) as (url, gates):
        shown = asked(page, site, end, "inert-steps", url)
        expect(shown.locator("details[data-agent-step='0']")).to_be_attached()
        expect(shown.get_by_text("steps, to be seen at the end")).to_be_attached()
        gates[1].set()
        gates[2].set()
        expect(shown.get_by_text("✓ done")).to_be_attached()
        shown.get_by_text(f"{len(lines) + 1} steps").click()
        expect(shown.locator("details[data-agent-step]")).to_have_count(len(lines) + 2)
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.wait_for_load_state("networkidle")
    assert scripts | hits.numbers == set()


def test_a_stop_keeps_the_steps(site: Site, end: FrontEnd, page: Page) -> None:
    """Stopped while it thinks: what it had thought is there, and the cells below run."""
    with answering(START + block(0, "thinking", thought("Half a thought")), END) as (url, _):
        shown = asked(page, site, end, "stopped-steps", url)
        expect(shown.locator("details[data-agent-step='0']")).to_be_attached()
        shown.get_by_role("button", name="Stop").click()
        expect(shown.get_by_text("■ stopped")).to_be_visible()
        expect(shown.locator("details[data-agent-step='0'] pre")).to_have_text("Half a thought")
        expect(cell(page, end, 2).get_by_text("stopped", exact=True).last).to_be_attached()
