"""How a question is put: what most wires send with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent_magic._request import AgentRequest
from agent_magic.errors import ConfigError

__all__ = ["key_header", "refuse_fields", "turns_of"]


def turns_of(ask: AgentRequest) -> list[dict[str, str]]:
    """The conversation as messages with a role: what was said, and the prompt."""
    messages = []
    for said in ask.said:
        messages += [{"role": "user", "content": said.prompt}, {"role": "assistant", "content": said.answer}]
    return [*messages, {"role": "user", "content": ask.prompt}]


def key_header(ask: AgentRequest) -> dict[str, Any]:
    """The header that carries the key: ``Authorization: Bearer`` or, where set so, ``X-API-Key``."""
    if ask.key is None:
        return {}
    if ask.auth == "x-api-key":
        return {"X-API-Key": ask.key}
    return {"Authorization": ask.key.behind("Bearer ")}


def refuse_fields(parameters: Mapping[str, object], own: Iterable[str], protocol: str) -> None:
    """Raise `ConfigError` if a parameter has the name of a field that the protocol fills itself."""
    for name in parameters:
        if name in own:
            raise ConfigError(
                f"{name!r} is a field that the {protocol} protocol fills itself; it cannot be a parameter."
            )
