"""The conversation as it goes along to an agent of AG-UI: what was said, and the question, by ids that stay."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from agent_magic._request import AgentRequest

__all__ = ["conversation"]


def conversation(ask: AgentRequest, thread: str) -> list[dict[str, Any]]:
    """Its messages, the question last; an answer is its own messages where they are known, else one with its words."""
    system = [] if ask.system is None else [_message(thread, 0, "system", ask.system)]
    turns: list[dict[str, Any]] = []
    for place, said in enumerate(ask.said):
        answer = said.messages or [_message(thread, place, "assistant", said.answer)]
        turns += [_message(thread, place, "user", said.prompt), *answer]
    return [*system, *turns, _message(thread, len(ask.said), "user", ask.prompt)]


def _message(thread: str, place: int, role: str, content: str) -> dict[str, Any]:
    identity = uuid5(NAMESPACE_URL, f"{thread} {place} {role} {content}")
    return {"id": str(identity), "role": role, "content": content}
