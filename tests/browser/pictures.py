"""What it looks like: ``python -m tests.browser.pictures`` takes pictures of real cells in real front ends.

Every state in light and dark, wide and narrow, goes into ``.cache/pictures``, to be looked at. With
``--readme`` the README's own pictures are taken anew, into ``notebooks/pictures``.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.browser._front_ends import FRONT_ENDS, FrontEnd, Site, cell, jupyter_server
from tests.browser.conftest import CHROMIUM, FLAGS

ROOT = Path(__file__).parents[2]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
FRAMES_A_SECOND = 8
MAPPED = """from agent_magic import Agent
agent = Agent("demo", price={"input": 3, "output": 15})
questions = [f"What makes number {n}?" for n in range(11)] + [None]
results = await agent.amap(questions, concurrency=4, stream_delay_ms=60)
results"""
CELLS = (
    "%load_ext agent_magic",
    "%%agent demo-you -o answer -p stream_delay_ms=70\nWhat makes the sky blue?",
    "%%agent -p stream_delay_ms=400\nWhat makes the sky blue?",
    "%%agent -p fail=cut -p stream_delay_ms=10\nWhat makes the sky blue?",
    "%%agent -p fail=STREAM_ERROR -p stream_delay_ms=10\nWhat makes the sky blue?",
    MAPPED,
)
State = Callable[[Page, FrontEnd], Locator]


def streaming(page: Page, end: FrontEnd) -> Locator:
    """A cell in mid-stream, with its bar."""
    shown = _run(page, end, 1)
    shown.get_by_text("sources").first.wait_for()
    shown.get_by_role("table").wait_for()
    return shown


def done(page: Page, end: FrontEnd) -> Locator:
    """The same at its end: the line and the sources."""
    shown = cell(page, end, 1)
    shown.get_by_text("✓ done").wait_for()
    return shown


def stopped(page: Page, end: FrontEnd) -> Locator:
    """After a click on Stop."""
    shown = _run(page, end, 2)
    shown.get_by_text("embedded").wait_for()
    shown.get_by_role("button", name="Stop").click()
    shown.get_by_text("■ stopped").wait_for()
    return shown


def retrying(page: Page, end: FrontEnd) -> Locator:
    """The countdown to a reconnection."""
    shown = _run(page, end, 3)
    shown.get_by_text("retry 1 of 3").last.wait_for()
    return shown


def failed(page: Page, end: FrontEnd) -> Locator:
    """A failure: the partial answer, the line, one sentence."""
    cell(page, end, 3).get_by_text("✓ done").wait_for()
    shown = _run(page, end, 4)
    shown.get_by_text("✗ failed").wait_for()
    return shown


def mapping(page: Page, end: FrontEnd) -> Locator:
    """A map's bar, when its first rows have ended."""
    shown = _run(page, end, 5)
    shown.get_by_text("left").first.wait_for()
    return shown


def mapped(page: Page, end: FrontEnd) -> Locator:
    """The same at its end, with one row that failed, and the results below it."""
    shown = cell(page, end, 5)
    shown.get_by_text("✗ 11 of 12 rows done").wait_for()
    shown.get_by_text("12 results: 11 done, 1 failed").first.wait_for()
    return shown


STATES: dict[str, State] = {
    state.__name__: state for state in (streaming, done, stopped, retrying, failed, mapping, mapped)
}


def _run(page: Page, end: FrontEnd, place: int) -> Locator:
    end.run_cell(page, place)
    shown = cell(page, end, place)
    shown.scroll_into_view_if_needed()
    return shown


@contextmanager
def opened(browser: Browser, site: Site, end: FrontEnd, width: int, theme: str) -> Iterator[Page]:
    """A page on which the notebook of all states is open and loaded."""
    site.set_theme(THEMES[theme])
    page = browser.new_page(viewport={"width": width, "height": 900})
    end.open(page, site, site.write(f"sky-{end.name}-{width}-{theme}", *CELLS))
    end.run_cell(page, 0)
    yield page
    page.close()


def all_states(browser: Browser, site: Site, folder: Path) -> Iterator[Path]:
    """Every state in every front end; JupyterLab in both themes and widths."""
    looks = [("lab", width, theme) for width in (1400, 600) for theme in THEMES]
    looks += [
        ("notebook", 1400, "dark"),
        ("notebook", 600, "light"),
        ("nbclassic", 1400, "light"),
        ("nbclassic", 600, "light"),
    ]
    for front, width, theme in looks:
        end = FRONT_ENDS[front]
        with opened(browser, site, end, width, theme) as page:
            for name, state in STATES.items():
                state(page, end)
                path = folder / f"{front}-{width}-{theme}-{name}.png"
                page.screenshot(path=path)
                yield path


def readme_pictures(browser: Browser, site: Site, folder: Path) -> Iterator[Path]:
    """The README's: a streaming cell as an animation, one that ended, one that failed."""
    end = FRONT_ENDS["lab"]
    with opened(browser, site, end, 860, "light") as page:
        page.set_viewport_size({"width": 860, "height": 620})
        yield _animation(page, end, folder / "streaming.webp")
    with opened(browser, site, end, 860, "dark") as page:
        streaming(page, end)
        yield _picture(done(page, end), folder / "done-dark.png")
        page.set_viewport_size({"width": 600, "height": 900})
        retrying(page, end)
        yield _picture(failed(page, end), folder / "failed-narrow-dark.png")


def _picture(shown: Locator, path: Path) -> Path:
    Image.open(io.BytesIO(shown.screenshot())).quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _animation(page: Page, end: FrontEnd, path: Path) -> Path:
    """What a person sees from the run of the cell to its end, in pictures of the real page."""
    shown = _run(page, end, 1)
    frames: list[Image.Image] = []
    over = 0
    while over < 2 * FRAMES_A_SECOND:
        frames.append(Image.open(io.BytesIO(page.screenshot())))
        over += shown.get_by_text("✓ done").count()
        page.wait_for_timeout(1000 / FRAMES_A_SECOND)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=1000 // FRAMES_A_SECOND, loop=0, lossless=True
    )
    return path


def main() -> None:
    """Take the pictures and say where they are."""
    readme = "--readme" in sys.argv[1:]
    folder = ROOT / "notebooks" / "pictures" if readme else ROOT / ".cache" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    take = readme_pictures if readme else all_states
    with (
        tempfile.TemporaryDirectory() as home,
        jupyter_server(Path(home)) as site,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        for path in take(browser, site, folder):
            print(path, flush=True)


if __name__ == "__main__":
    main()
