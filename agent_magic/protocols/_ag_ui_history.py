"""What a run of AG-UI said, as the messages that it is in a conversation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent_magic.protocols._json import objects, read_json, text, to_json

__all__ = ["History", "camel", "content_text"]

# What a message may have in any version; a server of 0.x refuses what it does not know.
FIELDS = ("id", "role", "content", "name", "toolCalls", "toolCallId")


def camel(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with its names as the wire writes them; some servers write them as Python does."""
    snake = {name: value for name, value in data.items() if "_" in name}
    return {re.sub("_([a-z])", lambda found: found[1].upper(), name): value for name, value in snake.items()} | {
        name: value for name, value in data.items() if name not in snake
    }


def content_text(content: object) -> str:
    """What a tool gave: text, or parts, which are written as JSON where one of them is not text."""
    if isinstance(content, str):
        return text(content) or ""
    parts = objects(content)
    if parts and all(part.get("type") == "text" for part in parts):
        return "".join(text(part.get("text")) or "" for part in parts)
    return to_json(content)


class History:
    """The messages of one run, put together from its events, by the server's ids.

    What comes in pieces is a list of them until it is asked for: an answer may have a hundred thousand.
    """

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        self._text = ""
        self._call = ""

    def hear(self, data: Mapping[str, Any]) -> None:
        """Take one event in."""
        match data.get("type"):
            case "TEXT_MESSAGE_START" | "TEXT_MESSAGE_CONTENT" | "TEXT_MESSAGE_CHUNK":
                self._text = text(data.get("messageId")) or self._text
                message = self._message(self._text, text(data.get("role")) or "assistant")
                _grow(message, "content", data.get("delta"))
            case "TOOL_CALL_START" | "TOOL_CALL_ARGS" | "TOOL_CALL_CHUNK":
                self._call = text(data.get("toolCallId")) or self._call
                self._called(self._call, data)
            case "TOOL_CALL_RESULT":
                call = text(data.get("toolCallId")) or self._call
                message = self._message(text(data.get("messageId")) or f"{call} result", "tool")
                message |= {"toolCallId": call, "content": content_text(data.get("content"))}
            case "MESSAGES_SNAPSHOT":
                self._corrected([camel(message) for message in objects(data.get("messages"))])

    def messages(self) -> list[dict[str, Any]]:
        """Those that may go back: of the agent, and of tools that it has called. None where it said nothing."""
        said = [_joined(message) for message in self._messages.values()]
        called = {call["id"] for message in said for call in message.get("toolCalls", ())}
        answered = called & {message.get("toolCallId") for message in said}
        kept = [one for message in said if (one := _kept(message, answered))]
        if not any(one["role"] == "assistant" and one.get("content") for one in kept):
            return []
        whole: list[dict[str, Any]] = read_json(to_json(kept))  # no halves of characters are left
        return whole

    def _message(self, identity: str, role: str) -> dict[str, Any]:
        return self._messages.setdefault(identity, {"id": identity, "role": role})

    def _called(self, identity: str, data: Mapping[str, Any]) -> None:
        if identity not in self._calls:
            function = {"name": text(data.get("toolCallName")) or "", "arguments": []}
            self._calls[identity] = {"id": identity, "type": "function", "function": function}
            holder = self._message(text(data.get("parentMessageId")) or identity, "assistant")
            holder.setdefault("toolCalls", []).append(self._calls[identity])
        _grow(self._calls[identity]["function"], "arguments", data.get("delta"))

    def _corrected(self, snapshot: list[dict[str, Any]]) -> None:
        """A snapshot that knows a message of this run has all of them, behind the last question."""
        asked = max((place for place, message in enumerate(snapshot) if message.get("role") == "user"), default=-1)
        own = {identity: message for message in snapshot[asked + 1 :] if (identity := text(message.get("id")))}
        if own.keys() & self._messages.keys():
            self._messages = {identity: _plain(message) for identity, message in own.items()}


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a snapshot, with what is of the right kind in it."""
    calls = [call for call in objects(message.get("toolCalls")) if isinstance(call.get("id"), str)]
    said = message.get("content")
    plain: dict[str, Any] = {name: text(message.get(name)) for name in ("id", "role", "name", "toolCallId")}
    plain["content"] = content_text(said) if message.get("role") == "tool" else text(said)
    return {name: value for name, value in {**plain, "toolCalls": calls}.items() if value or value == ""}


def _kept(message: Mapping[str, Any], answered: set[Any]) -> dict[str, Any]:
    """A message of the agent's or a tool's, without calls that nobody answered; nothing where nothing is left."""
    kept = {name: message[name] for name in FIELDS if name in message and name != "toolCalls"}
    match message.get("role"):
        case "tool":
            return kept if message.get("toolCallId") in answered else {}
        case "assistant":
            calls = [call for call in message.get("toolCalls", ()) if call["id"] in answered]
            return {**kept, **({"toolCalls": calls} if calls else {})} if calls or kept.get("content") else {}
        case _:
            return {}


def _grow(holder: dict[str, Any], name: str, piece: object) -> None:
    """One more piece of a field; what a snapshot says of it is a piece as well."""
    held = holder.get(name)
    if not isinstance(held, list):
        holder[name] = held = [held] if isinstance(held, str) else []
    held.append(piece if isinstance(piece, str) else "")


def _joined(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its pieces, and those of its calls' arguments, put together."""
    whole: dict[str, Any] = {name: "".join(value) if name == "content" else value for name, value in message.items()}
    if "toolCalls" in whole:
        whole["toolCalls"] = [_joined_call(call) for call in whole["toolCalls"]]
    return whole


def _joined_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), list):
        return dict(call)
    return {**call, "function": {**function, "arguments": "".join(map(str, function["arguments"]))}}
