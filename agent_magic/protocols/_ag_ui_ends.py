"""What is told at the end of a run of AG-UI: figures, and what the agent waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_magic.events import Notice, ServerSentEvent, Usage
from agent_magic.protocols._ag_ui_history import camel
from agent_magic.protocols._json import integer, objects, text, to_json

__all__ = ["interrupt_notice", "run_usage", "sentence", "waits_notice"]


def sentence(words: object) -> str:
    """What a server says, as one sentence of a line."""
    said = " ".join((text(words) or "no reason given").split())[:300]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def interrupt_notice(interrupt: Mapping[str, Any], sent: ServerSentEvent) -> Notice:
    """What a run was interrupted for, and how that is answered."""
    answer = [{"interruptId": text(interrupt.get("id")) or "", "status": "resolved", "payload": "…"}]
    return waits_notice(interrupt.get("message") or interrupt.get("reason"), f"resume={to_json(answer)}", sent)


def waits_notice(question: object, parameter: str, sent: ServerSentEvent) -> Notice:
    """What the agent wants to know; the servers of LangGraph's agents before 1.0 say it in an event of their own."""
    said = f"The agent waits for an answer before it goes on: {sentence(question)}"
    return Notice(message=f"{said} Answer it in the same session with the parameter {parameter}.", sent=sent)


def run_usage(data: Mapping[str, Any], sent: ServerSentEvent) -> Iterator[Usage]:
    """The tokens of a run: one entry for each model, whose figures add up."""
    entries = [camel(entry) for entry in objects(data.get("usage"))]
    if not entries:
        return
    went, came = _sum(entries, "inputTokens"), _sum(entries, "outputTokens")
    total = None if went is None or came is None else went + came
    if all(integer(entry.get("totalTokens")) is not None for entry in entries):
        total = _sum(entries, "totalTokens")
    yield Usage(input_tokens=went, output_tokens=came, total_tokens=total, raw={"usage": data["usage"]}, sent=sent)


def _sum(entries: Iterable[Mapping[str, Any]], name: str) -> int | None:
    figures = [figure for entry in entries if (figure := integer(entry.get(name))) is not None]
    return sum(figures) if figures else None
