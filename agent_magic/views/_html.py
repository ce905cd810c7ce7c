"""What stands beside an answer, as HTML: the bar's words, the line at the end, the sources.

All that comes from outside is escaped, a link leads to http or https only, and a colour or a font is
the theme's where the front end has one to offer. What moves or sticks is said in one style sheet,
which is in the page while a cell runs.
"""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import urlsplit

from agent_magic.events import Source
from agent_magic.views._base import Caption, counted
from agent_magic.views._steps import QUIET, SUMMARY, steps_folded, steps_in_text

__all__ = ["ANCHOR", "BAR_STYLE", "ending", "line", "progress", "sources_list", "state", "words"]

# As high as the bar, whose place it takes; a second row adds to it as little as it can.
LINE = (
    f"{QUIET}; font-family: var(--jp-ui-font-family, system-ui, sans-serif); box-sizing: border-box; min-height: 32px; "
    "padding: 7px 0; line-height: 1.4; overflow-wrap: anywhere; font-variant-numeric: tabular-nums"
)
WORDS = f"{QUIET}; display: inline-block; line-height: 1.4; vertical-align: middle; font-variant-numeric: tabular-nums"
LIST = "margin: 0; padding-left: 2em; line-height: 1.6"
PROGRESS = "width: 72px; height: 10px; accent-color: var(--jp-brand-color1, #1976d2)"
HIDDEN = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap"
OUTCOMES = {
    "done": ("✓", "var(--jp-success-color1, #388e3c)"),
    "failed": ("✗", "var(--jp-error-color1, #d32f2f)"),
    "stopped": ("■", "var(--jp-warn-color1, #b26a00)"),
    "interrupted": ("■", "var(--jp-warn-color1, #b26a00)"),
}
# Sources beyond these are folded away.
SHOWN_SOURCES = 6

_BAR = """.jp-OutputArea:has(> * > * > .agent-magic-bar) { overflow: visible; }
#notebook:has(.agent-magic-bar) { overflow: clip visible; }
.jp-OutputArea-child:has(> * > .agent-magic-bar), .output_area:has(> * > .agent-magic-bar) {
  position: sticky; bottom: 0; z-index: 2; background: var(--jp-layout-color0, #fff); }
.agent-magic-bar { overflow: hidden; align-items: center; min-height: 28px; }
.agent-magic-bar > .jupyter-button { flex: none; width: auto; }
.agent-magic-bar > .widget-html { flex: none; margin: 0 0 0 8px; }
.agent-magic-bar > .agent-magic-words { flex: 1; min-width: 0; }
.agent-magic-bar > .agent-magic-spoken { width: 0; margin: 0; }
.agent-magic-bar .fa-stop::before { content: "■" / ""; font-family: inherit; }
@media (prefers-reduced-motion: reduce) { .agent-magic-bar progress:not([value]) { display: none; } }
"""
# For a bar in a cell that has no anchor.
BAR_STYLE = f"<style>{_BAR}</style>"

# In the page while a cell runs, before its other outputs.
#
# JupyterLab and Notebook lose the reader's place when a cell's outputs are cleared: they measure the page while it
# has none (OutputArea._clear), and on a busy machine they draw the answer some frames before the line. This element
# goes first, and when it does, it has the outputs keep their height until the line is there, and the box that
# Notebook puts long outputs into its place. JupyterLab takes such a height away by itself after 50 ms, so it is said
# again in each frame.
#
# A segment stands below the one before it as it will in one piece: front ends give the first and the last block of
# an output other margins, and the outputs in Notebook's box a distance.
#
# The bar stays at the lower edge of what is seen while the answer grows beyond it. A box that clips would hold it
# back, so while a bar is in it, it does not clip. The sign on the button is no part of its name: what a screen reader
# says is "Stop". And nbclassic gives height to displays that are still empty; while the anchor is there, it does not.
#
# A step that the reader has opened stays open when its display is drawn anew, and when the end takes its place, with
# the focus and the place in it; who reads the end of a thought that goes on stays at its end.
#
# All this is for JupyterLab, Notebook and nbclassic; elsewhere it meets nothing, and does nothing.
_HOLD = """<style>
.output:has(agent-magic-anchor) > .output_area:has(> .output_markdown:empty),
.output_area:has(> .output_html > agent-magic-anchor) { display: none; }
.jp-Cell-outputArea.jp-OutputArea:has(agent-magic-anchor) > .jp-OutputArea-child { padding-top: 0; }
.jp-OutputArea:has(agent-magic-anchor) > :has(+ * > .jp-RenderedMarkdown > *) > .jp-RenderedMarkdown > :last-child {
  margin-bottom: 0; }
.jp-OutputArea:has(agent-magic-anchor) > :has(> .jp-RenderedMarkdown > *) ~ * > .jp-RenderedMarkdown >
  :is(p, ul, ol, table, blockquote):first-child { margin-top: 1em; }
</style><script>
customElements.get("agent-magic-anchor") ?? customElements.define("agent-magic-anchor", class extends HTMLElement {
  connectedCallback() {
    this.keepSteps(this.closest(".jp-Cell-outputArea, .output"));
    this.box = this.closest(".jp-Cell-outputArea");
    if (!this.box) return;
    this.observer = new ResizeObserver(() => { this.tall = `${this.box.offsetHeight}px`; });
    this.observer.observe(this.box);
  }
  keepSteps(area) {
    clearTimeout(this.leaving);
    if (!area || this.steps) return;
    area.agentMagicLeave?.();  // the cell is run again, and its steps are others
    this.quiet = new AbortController();
    const open = new Map(), places = new Map();
    const key = (element) => element.closest("[data-agent-step]")?.dataset.agentStep;
    const on = (name, heard) => area.addEventListener(name, heard, {capture: true, signal: this.quiet.signal});
    let focused, turn = 0;
    on("toggle", ({target}) => { if (target.isConnected && key(target)) open.set(key(target), target.open); });
    on("focusin", ({target}) => { turn += 1; focused = target.matches("summary") ? key(target) : undefined; });
    on("focusout", () => {  // it goes with the display, too, and is given back with the next one
      const left = turn;
      setTimeout(() => { if (turn === left) focused = undefined; }, 250);
    });
    on("scroll", ({target}) => {
      const end = target.scrollHeight - target.clientHeight - target.scrollTop < 8;
      if (key(target)) places.set(key(target), end ? Infinity : target.scrollTop);
    });
    this.steps = new MutationObserver((changes) => {
      if (!changes.some(({addedNodes}) => addedNodes.length)) return;
      for (const step of area.querySelectorAll("[data-agent-step]")) {
        if (step.agentMagicKept) continue;
        step.agentMagicKept = true;
        const name = step.dataset.agentStep;
        step.open = open.get(name) ?? (name === "all" ? [...open.values()].includes(true) : step.open);
        const last = [...step.querySelectorAll(":scope > pre")].pop();
        if (last && places.has(name)) last.scrollTop = Math.min(places.get(name), last.scrollHeight);
        if (focused === name && document.activeElement === document.body) {
          step.querySelector("summary").focus({preventScroll: true});
        }
      }
    });
    this.steps.observe(area, {childList: true, subtree: true});
    area.agentMagicLeave = () => {
      this.steps?.disconnect();
      this.quiet.abort();
      this.steps = undefined;
    };
    this.leave = area.agentMagicLeave;
  }
  disconnectedCallback() {
    const {box, tall, observer, leave} = this;
    this.leaving = setTimeout(() => leave?.(), 3000);
    if (!box) return;
    observer.disconnect();
    const top = box.scrollTop, until = performance.now() + 2000;
    box.style.minHeight = tall;
    const hold = () => {
      const over = box.querySelector("[role=status]") || performance.now() > until;
      box.style.minHeight = over ? "" : tall;
      if (top > 0) box.scrollTop = top;
      if (!over) requestAnimationFrame(hold);
    };
    requestAnimationFrame(hold);
  }
});
</script>"""
ANCHOR = f"<agent-magic-anchor></agent-magic-anchor>{BAR_STYLE}{_HOLD}"


def line(status: str, parts: list[str]) -> str:
    """The line at the end: the outcome first, then the agent and the rest of `parts`.

    The outcome is a live region of its own: a screen reader says it once, and not the figures.
    """
    agent, outcome, *rest = (escape(part) for part in parts)
    sign, colour = OUTCOMES.get(status, ("", "inherit"))
    marked = f'<span role="status" style="color: {colour}">{sign} {outcome}</span>'
    return f'<div style="{LINE}">{" · ".join([marked, agent, *rest])}</div>'


def ending(status: str, caption: Caption) -> dict[str, Any]:
    """The steps on the way, the line at the end and the sources, as a display's data."""
    steps = caption.steps()
    shown = steps_folded(steps) + line(status, caption.final()) + sources_list(caption.sources())
    return {"text/html": shown, "text/plain": "\n".join([*steps_in_text(steps), *caption.ending()])}


def words(parts: list[str]) -> str:
    """What the bar says, for eyes; a screen reader would be told every second."""
    return f'<span style="{WORDS}">{" · ".join(map(escape, parts))}</span>'


def held(parts: list[str]) -> dict[str, Any]:
    """The same where no bar is yet, and as high, as a display's data."""
    return {"text/html": f'<div style="{LINE}">{" · ".join(map(escape, parts))}</div>'}


def state(said: str) -> str:
    """What the agent is doing, for ears: a live region that is nowhere to be seen."""
    return f'<span role="status" style="{HIDDEN}">{escape(said)}</span>'


def progress(fraction: float | None) -> str:
    """A progress bar; without a fraction it moves by itself, as the browser draws it."""
    value = "" if fraction is None else f' value="{fraction:.3f}"'
    return f'<progress{value} style="{PROGRESS}" aria-label="Progress"></progress>'


def sources_list(sources: list[Source]) -> str:
    """The sources as a numbered list with links; many of them folded."""
    if not sources:
        return ""
    rows = "".join(f"<li>{_link(source)}</li>" for source in sources)
    unfolded = " open" if len(sources) <= SHOWN_SOURCES else ""
    summary = f'<summary style="{SUMMARY}">{counted(len(sources), "source")}</summary>'
    return f'<details{unfolded} style="{QUIET}">{summary}<ol style="{LIST}">{rows}</ol></details>'


def _link(source: Source) -> str:
    title = escape(" ".join((source.title or source.url).split()))
    try:
        parts = urlsplit(source.url)
    except ValueError:
        return title
    if parts.scheme not in {"http", "https"}:
        return title
    href = escape(source.url, quote=True)
    named = f'<a href="{href}" target="_blank" rel="noopener noreferrer">{title}</a>'
    return f"{named} · {escape(parts.netloc)}" if source.title else named
