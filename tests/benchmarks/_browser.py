"""The figures that are taken in a real page: JupyterLab in Chromium."""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from agent_magic.testing import ScriptedServer, event_stream, head
from tests.browser._front_ends import FRONT_ENDS, Site, cell, jupyter_server
from tests.browser._sampling import Sampled, begin, finish, numbered_markdown
from tests.browser.conftest import CHROMIUM, FLAGS

END = FRONT_ENDS["lab"]
# With the limit the server would throw most of the baseline's output away.
NO_RATE_LIMIT = "--ZMQChannelsWebsocketConnection.limit_rate=False"
SIZE, PIECE, RATE = 100_000, 200, 50
# What most magics do: the whole text again at each event.
BASELINE = """
import httpx, json
from httpx_sse import EventSource
from IPython.display import HTML, Markdown, display
text, shown = "", display(Markdown(""), display_id=True)
with httpx.Client(timeout=None) as client, client.stream("POST", "URL") as response:
    for event in EventSource(response).iter_sse():
        if event.event == "chunk":
            text += json.loads(event.data)["content"]
            shown.update(Markdown(text))
display(HTML("✓ done"))
"""
SHORT_BASELINE = """
from IPython.display import HTML, Markdown, display
shown = display(Markdown(""), display_id=True)
for end in range(0, len(TEXT), 150):
    shown.update(Markdown(TEXT[:end]))
display(HTML("✓ done"))
"""


# Notes the first frame after the one in which the line is on the page.
WATCH = """() => {
    const outputs = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[1].querySelector('.jp-Cell-outputArea');
    const look = () => {
        const last = [...outputs.querySelectorAll('.jp-RenderedHTML')].at(-1);
        if (last?.textContent.includes('✓ done')) requestAnimationFrame(() => { window.over = Date.now(); });
        else requestAnimationFrame(look);
    };
    look();
}"""


@contextmanager
def page_with(browser: Browser, site: Site, name: str, *cells: str, agent: str) -> Iterator[Page]:
    """A page on which the notebook is open and its first cell has been run."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(1_200_000)
    END.open(page, site, site.write(name, *cells, agent=agent))
    END.run_cell(page, 0)
    yield page
    page.close()


def busy(session: CDPSession) -> float:
    """Seconds that the page's main thread has worked so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def heap(session: CDPSession) -> float:
    """Bytes of the page's heap after a collection."""
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))


class Paced:
    """A server that says `text` in pieces of `PIECE` characters at `RATE` a second, and notes when it was through."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.began = 0.0
        self.ended = 0.0

    def __call__(self, connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
        self.began = time.time()
        for index, place in enumerate(range(0, len(self._text), PIECE)):
            time.sleep(max(0.0, self.began + index / RATE - time.time()))
            connection.sendall(event_stream(("chunk", {"content": self._text[place : place + PIECE], "index": index})))
        connection.sendall(event_stream(("done", {})))
        self.ended = time.time()


def streamed(
    browser: Browser, site: Site, name: str, code: Callable[[str], str], *, sample: bool
) -> tuple[float, float, Sampled | None]:
    """Seconds from the last byte to the last paint, the main thread's share of the stream's time, what the frames showed."""
    script = Paced(numbered_markdown(SIZE)[:SIZE])
    with (
        ScriptedServer(script) as server,
        page_with(browser, site, name, "%load_ext agent_magic", code(server.url), "'below'", agent=server.url) as page,
    ):
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        if sample:
            begin(page, END, 1)
        before = busy(session)
        page.evaluate(WATCH)
        END.run_cell(page, 1)
        page.wait_for_function("() => window.over")
        late = page.evaluate("() => window.over") / 1000
        share = (busy(session) - before) / (script.ended - script.began)
        return late - script.ended, share, finish(page) if sample else None


def stream_rows(browser: Browser, site: Site) -> Iterator[tuple[str, str, str, str]]:
    """100 KB as 500 events of 200 characters at 50 a second."""
    timed = [streamed(browser, site, f"timed-{turn}", lambda _: "%%agent\nGo on.", sample=False) for turn in range(3)]
    late, share = (statistics.median(column) for column in list(zip(*timed, strict=True))[:2])
    _, _, seen = streamed(browser, site, "sampled", lambda _: "%%agent\nGo on.", sample=True)
    # To be sampled costs the baseline next to nothing.
    their_late, their_share, theirs = streamed(
        browser, site, "baseline", lambda url: BASELINE.replace("URL", url), sample=True
    )
    assert seen is not None
    assert theirs is not None
    yield (
        "last byte to last paint, 100 KB as 500 events at 50/s",
        f"{late:.1f} s",
        "1 s",
        f"{their_late:.0f} s",
    )
    yield "browser's main thread busy, of the stream's time, median of 3", f"{share:.0%}", "60 %", f"{their_share:.0%}"
    yield (
        f"frames in which text vanished or stood twice, of {seen.frames}",
        f"{seen.vanished + seen.doubled}",
        "0",
        f"{theirs.vanished + theirs.doubled} of {theirs.frames}, the longest {theirs.longest / 1000:.1f} s",
    )
    yield "largest drop in height, one frame to the next", f"{seen.drop:.0f} px", "30 px", f"{theirs.drop:.0f} px"


def click_rows(browser: Browser, site: Site) -> Iterator[tuple[str, str, str, str]]:
    """A real click on Stop to the moment in which the page shows the cell as ended."""

    def endless(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
        for index in range(100_000):
            connection.sendall(event_stream(("chunk", {"content": f"word{index} ", "index": index})))
            time.sleep(0.05)

    watch = """() => new Promise(go => {
        const asked = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[1];
        const button = [...asked.querySelectorAll('button')].find(each => each.textContent.includes('Stop'));
        button.addEventListener('click', () => {
            const clicked = performance.now();
            const look = () => {
                const over = !asked.querySelector('.jp-InputPrompt').textContent.includes('*');
                if (over && asked.textContent.includes('■ stopped')) window.took = performance.now() - clicked;
                else requestAnimationFrame(look);
            };
            look();
        });
        go();
    })"""
    took = []
    with ScriptedServer(endless) as server, page_with(
        browser, site, "clicks", "%load_ext agent_magic", "%%agent\nGo on.", agent=server.url
    ) as page:  # fmt: skip
        for _ in range(20):
            END.run_cell(page, 1)
            asked = cell(page, END, 1)
            asked.get_by_text("word3").wait_for()
            asked.get_by_role("button", name="Stop").wait_for()
            page.evaluate(watch)
            asked.get_by_role("button", name="Stop").click()
            page.wait_for_function("() => window.took !== undefined")
            took.append(page.evaluate("() => { const took = window.took; delete window.took; return took; }") / 1000)
    late = sorted(took)[18]
    yield (
        "click on Stop to the cell's end on the page, p95 of 20",
        f"{late:.2f} s (median {statistics.median(took):.2f} s)",
        "0.7 s",
        "",
    )


def heap_rows(browser: Browser, site: Site) -> Iterator[tuple[str, str, str, str]]:
    """The page's heap after 200 runs of one cell over the heap after 20."""
    text = numbered_markdown(3000)

    def says_it(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
        for index, place in enumerate(range(0, len(text), 20)):
            connection.sendall(event_stream(("chunk", {"content": text[place : place + 20], "index": index})))
            time.sleep(0.004)
        connection.sendall(event_stream(("done", {})))

    def growth(name: str, first: str, code: str, url: str) -> float:
        with page_with(browser, site, name, first, code, agent=url) as page:
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            run = """async place => {
                const panel = jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = place;
                await jupyterapp.commands.execute('notebook:run-cell');
            }"""
            sizes = []
            for number in range(1, 201):
                page.evaluate(run, 1)
                if number in {20, 200}:
                    page.wait_for_timeout(8000)
                    sizes.append(heap(session))
            return sizes[1] / sizes[0]

    with ScriptedServer(says_it) as server:
        ours = growth(
            "heap",
            "%load_ext agent_magic\nimport agent_magic.views._bar as bar\nbar.VIEW_SECONDS = 0",
            "%%agent\nGo on.",
            server.url,
        )
        theirs = growth("heap-baseline", f"TEXT = {text!r}", SHORT_BASELINE, server.url)
    yield "page's heap after 200 runs of a cell over that after 20", f"{ours:.2f}x", "1.3x", f"{theirs:.2f}x"


def browser_rows() -> Iterator[tuple[str, str, str, str]]:
    """All of them, each beside the display of the whole text at each event."""
    with (
        tempfile.TemporaryDirectory() as home,
        jupyter_server(Path(home), NO_RATE_LIMIT) as site,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        for rows in (click_rows, stream_rows, heap_rows):
            yield from rows(browser, site)
