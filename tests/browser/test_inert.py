"""What an agent says runs no script and fetches nothing, in any front end; and shown unguarded, it would."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect

from agent_magic.testing import ScriptedServer, event_stream, head
from agent_magic.views._markdown import inert
from tests.browser._corpus import CORPUS, armed
from tests.browser._front_ends import FRONT_ENDS, FrontEnd, Site, cell

# Each text goes through the front end's own renderer for a trusted cell. What a person could click counts as well.
SHOW = """async texts => {
    const host = document.createElement('div');
    const links = [];
    const active = 'a, area, form, button[formaction], [href]:not(link):not(base)';
    const look = (node, number) => {
        for (const each of node.querySelectorAll(active)) {
            const href = each.getAttribute('href') ?? each.getAttribute('xlink:href') ?? each.getAttribute('action') ?? '';
            const place = href.replace(/[\\u0000-\\u0020]/g, '');
            if (href && !/^(https?:|mailto:|#)/i.test(place)) links.push([number, href]);
        }
    };
    const show = SHOW_ONE;
    for (const [number, text] of texts) await show(text, number, look);
    await new Promise(go => setTimeout(go, texts.length > 1 ? 300 : 0));
    return links;
}"""
SHOW_ONE = {
    "nbclassic": """(() => {
        const area = Jupyter.notebook.get_cell(0).output_area;
        area.trusted = true;
        return async (text, number, look) => {
            area.clear_output();
            area.append_output({output_type: 'display_data', data: {'text/markdown': text}, metadata: {}});
            await new Promise(go => setTimeout(go, text.includes('$') ? 5 : 0));
            look(area.element[0], number);
        };
    })()""",
    "lab": """(() => {
        const rendermime = jupyterapp.shell.currentWidget.content.rendermime;
        document.body.append(host);
        return async (text, number, look) => {
            const shown = rendermime.createRenderer('text/markdown');
            host.append(shown.node);
            const model = rendermime.createModel({data: {'text/markdown': text}, trusted: true});
            await shown.renderModel(model);
            look(shown.node, number);
            setTimeout(() => shown.dispose(), 500);
        };
    })()""",
}
SHOW_ONE["notebook"] = SHOW_ONE["lab"]
READ = {
    "nbclassic": "Jupyter.notebook.get_cell(0).output_area.element[0].innerText",
    "lab": "document.querySelector('body > div:last-child').innerText",
}
READ["notebook"] = READ["lab"]
# Not every way leads anywhere in every front end; of these kinds at least one does in each.
KINDS_THAT_FIRE = {
    "nested HTML",
    "event",
    "frame",
    "SVG",
    "CSS",
    "link",
    "reference",
    "image",
    "HTML block",
    "fence",
    "TeX",
}


class Hits:
    """A server that counts who asks for what: the numbers of the texts in whose name it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.numbers: set[int] = set()

    def __call__(self, connection: socket.socket, request: bytes, _number: int) -> None:
        if found := re.match(rb"\w+ /hit/(\d+)/", request):
            self.numbers.add(int(found[1]))
        connection.sendall(head("text/plain", "404 Not Found", "Access-Control-Allow-Origin: *") + b"no")


@pytest.fixture
def hits() -> Iterator[Hits]:
    script = Hits()
    with ScriptedServer(script) as server:
        script.url = server.url
        yield script


class Bare:
    """A page with an open notebook, in which texts are shown as a trusted cell's. It notices scripts and links."""

    def __init__(self, page: Page, end: FrontEnd, hits: Hits, reopen: Callable[[], None]) -> None:
        self.page = page
        self.scripts: set[int] = set()
        self.links: set[int] = set()
        self.hits = hits
        self._show = SHOW.replace("SHOW_ONE", SHOW_ONE[end.name])
        self._reopen = reopen
        page.expose_function("fired", self._fired)
        page.route("**/hit/**", self._stay)
        reopen()

    def _fired(self, number: int) -> None:
        self.scripts.add(number)

    @property
    def found(self) -> set[int]:
        """The numbers of the texts that did something, or could at a click."""
        return self.scripts | self.links | self.hits.numbers

    def show(self, texts: Sequence[tuple[int, str]]) -> None:
        """Show texts that should do nothing, many at a time."""
        for start in range(0, len(texts), 1000):
            found = self.page.evaluate(self._show, [list(text) for text in texts[start : start + 1000]])
            self.links |= {number for number, _ in found}

    def wait_for(self, arrived: Callable[[], bool]) -> None:
        """Give what should happen the time that a busy machine needs."""
        for _ in range(600):
            if arrived():
                return
            self.page.wait_for_timeout(50)

    def show_each(self, texts: Sequence[tuple[int, str]]) -> None:
        """Show texts that may do anything, one by one; one that sends the page away has done something."""
        for number, text in texts:
            try:
                self.show([(number, text)])
            except Error:
                self.hits.numbers.add(number)
                self._come_back()

    def _come_back(self) -> None:
        """Open the notebook again; while the text is still about to send the page away, that fails."""
        for _ in range(5):
            with suppress(Error):
                self._reopen()
                return

    def _stay(self, route: Route) -> None:
        if route.request.is_navigation_request() and route.request.frame == self.page.main_frame:
            self.hits.numbers.add(int(route.request.url.split("/hit/")[1].split("/")[0]))
            route.abort()
        else:
            route.continue_()


@pytest.fixture
def bare(browser: Browser, site: Site, end: FrontEnd, hits: Hits, request: pytest.FixtureRequest) -> Iterator[Bare]:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    path = site.write(f"bare-{end.name}-{request.node.originalname}", "1")
    yield Bare(page, end, hits, lambda: end.open(page, site, path))
    page.close()


def pieces(text: str, place: int) -> Iterator[str]:
    """The whole of `text`, and its two halves as the ends of two segments: cut in the middle, and at every third place."""
    yield text
    for cut in {len(text) // 2, *range(1 + place % 3, len(text), 3)}:
        yield text[:cut]
        yield text[cut:]


def test_the_corpus_is_large_enough() -> None:
    """At least 150 ways, none of them twice."""
    assert len({text for _, text in CORPUS}) == len(CORPUS) >= 150


def test_guarded(bare: Bare, hits: Hits) -> None:
    """Whole or cut anywhere, no text runs a script, fetches anything, or has a link that could."""
    texts = {
        (number, inert(piece))
        for number, (_, text) in enumerate(CORPUS)
        for piece in pieces(armed(text, number, hits.url), number)
    }
    bare.show(sorted(texts))
    assert [CORPUS[number] for number in bare.found] == []


def test_unguarded(bare: Bare, hits: Hits) -> None:
    """The positive control: shown as they came, texts of every kind do what the guarded ones do not."""
    bare.show_each([(number, armed(text, number, hits.url)) for number, (_, text) in enumerate(CORPUS)])
    bare.wait_for(lambda: {CORPUS[number][0] for number in bare.found} >= KINDS_THAT_FIRE)
    assert {CORPUS[number][0] for number in bare.found} >= KINDS_THAT_FIRE
    assert bare.scripts
    assert bare.links
    assert hits.numbers


def test_images_and_only_images(bare: Bare, hits: Hits) -> None:
    """With `images = true` images are fetched, and nothing else is, and no script runs."""
    bare.show([(number, inert(armed(text, number, hits.url), images=True)) for number, (_, text) in enumerate(CORPUS)])
    bare.wait_for(lambda: {CORPUS[number][0] for number in hits.numbers} >= {"image", "reference"})
    assert [CORPUS[number] for number in bare.scripts | bare.links] == []
    assert [CORPUS[number] for number in hits.numbers if "![" not in CORPUS[number][1]] == []
    assert {CORPUS[number][0] for number in hits.numbers} >= {"image", "reference"}


def test_code_shows_it_unharmed(bare: Bare, end: FrontEnd, hits: Hits) -> None:
    """In a fence or a code span such text is to be read, to the letter, and does nothing."""
    plain = [text for _, text in CORPUS if text.isprintable() and not set(text) & set("`|") and text.strip() == text]
    lines = [armed(text, number, hits.url) for number, text in enumerate(plain)]
    assert len(lines) > 150
    for source in ("".join(f"~~~\n{line}\n~~~\n\n" for line in lines), "".join(f"`` {line} ``\n\n" for line in lines)):
        bare.show([(0, inert(source))])
        text: str = bare.page.evaluate(READ[end.name])
        read = " ".join(text.replace("\u200b", "").split())
        assert [line for line in lines if " ".join(line.split()) not in read] == []
    assert bare.scripts | hits.numbers == set()


def test_a_cell_that_says_it_all(site: Site, end: FrontEnd, page: Page, hits: Hits) -> None:
    """The same through a real cell: the whole corpus as an answer that streams in, with a hostile session."""
    text = "".join(
        f"## Case {number}\n\n{armed(text, number, hits.url)}\n\n" for number, (_, text) in enumerate(CORPUS)
    )

    def says_it(connection: socket.socket, _request: bytes, _number: int) -> None:
        hostile = armed("<img src=HIT onerror=FIRE>", len(CORPUS), hits.url)
        connection.sendall(head() + event_stream(("start", {"session_id": hostile, "message": hostile})))
        for index, place in enumerate(range(0, len(text), 997)):
            connection.sendall(event_stream(("chunk", {"content": text[place : place + 997], "index": index})))
        connection.sendall(event_stream(("done", {})))

    scripts: set[int] = set()

    def fired(number: int) -> None:
        scripts.add(number)

    page.expose_function("fired", fired)
    with ScriptedServer(says_it) as agent:
        path = site.write(
            f"all-{end.name}", "%load_ext agent_magic", "%%agent\nSay it.", "print('ov' + 'er')", agent=agent.url
        )
        end.open(page, site, path)
        end.run_all(page)
        expect(cell(page, end, 1).get_by_text("✓ done")).to_be_attached()
        expect(cell(page, end, 2).get_by_text("over", exact=True).last).to_be_attached()
    page.wait_for_load_state("networkidle")
    assert scripts | hits.numbers == set()


def test_no_front_end_is_left_out() -> None:
    """Every front end has its way to be shown a text."""
    assert set(SHOW_ONE) == set(FRONT_ENDS)
