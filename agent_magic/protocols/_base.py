"""What a protocol is: a request and a decoder, with no I/O between them.

An `AgentProtocol` turns an `AgentRequest` into an `HTTPRequest` and hands out a fresh `Decoder` for
each run. A decoder holds all the state of one run's stream, over as many connections as the run
takes. Whoever drives it calls, per connection, `decode` for each server-sent event or `whole` for a
JSON reply, and `closed` at the connection's end; after a lost one `resume`, and when there is no more to come `flush`.
Nothing that a server sends may make a decoder raise anything but `ProtocolError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from agent_magic._request import AgentRequest, HTTPRequest
from agent_magic.errors import AgentError, AgentMagicError, AuthError, ConfigError, ProtocolError, RateLimited
from agent_magic.events import AgentEvent, Done, Notice, ServerSentEvent

__all__ = [
    "AgentProtocol",
    "Decoder",
    "HTTPFailure",
    "Joiner",
    "Keeper",
    "ending",
    "error_of",
    "integer",
    "key_header",
    "number",
    "objects",
    "read_json",
    "read_object",
    "refuse_fields",
    "text",
    "to_json",
    "turns_of",
]


Keeper = Literal["server", "client", "nobody"]


class HTTPFailure(Struct, frozen=True):
    """A reply that is not a success: its head, and the first part of its body.

    `retry_after` is the ``Retry-After`` header in seconds, whichever of its two forms it had.
    """

    status: int
    host: str
    body: bytes
    retry_after: float | None = None
    key_env: str | None = None


class Decoder(Protocol):
    """One run's stream: server-sent events in, `agent_magic.events` out."""

    def decode(self, sent: ServerSentEvent) -> Iterable[AgentEvent]:
        """What `sent` says. Raises `ProtocolError` where it cannot be read."""

    def whole(self, body: bytes) -> Iterable[AgentEvent]:
        """The answer in a JSON reply that was not streamed. Raises `ProtocolError`."""

    def closed(self) -> Iterable[AgentEvent]:
        """What it means that the connection ended: a `Done` where the answer was complete, mostly nothing."""

    def flush(self) -> Iterable[AgentEvent]:
        """What is left when nothing more will come."""

    def resume(self) -> AgentRequest | None:
        """The request that goes on where the lost connection ended, or None where the wire cannot."""


class AgentProtocol(Protocol):
    """One wire. It keeps no state, so one object serves every run.

    `conversations` says who remembers what was said before: the "server", which is sent a session's id, the
    "client", which sends it along with each question, or "nobody". `has_system` is whether there is a place for a
    system text.
    """

    name: str
    base_url: str
    key_env: str | None
    conversations: Keeper
    has_system: bool

    def request(self, ask: AgentRequest) -> HTTPRequest:
        """The HTTP request for `ask`. Raises `ConfigError` for a parameter that it cannot carry."""

    def decoder(self, ask: AgentRequest) -> Decoder:
        """A fresh decoder for the run that `ask` begins."""

    def error(self, failure: HTTPFailure) -> AgentMagicError:
        """The error that a reply without success stands for."""


def turns_of(ask: AgentRequest) -> list[dict[str, str]]:
    """The conversation as messages with a role: what was said, and the prompt."""
    messages = []
    for said in ask.said:
        messages += [{"role": "user", "content": said.prompt}, {"role": "assistant", "content": said.answer}]
    return [*messages, {"role": "user", "content": ask.prompt}]


# Why an answer ends before it is complete, in the words of several wires.
CUT_SHORT = {
    "length": "the limit of tokens was reached",
    "max_tokens": "the limit of tokens was reached",
    "max_output_tokens": "the limit of tokens was reached",
    "model_context_window_exceeded": "the model's context is full",
    "content_filter": "a filter of the service's ended it",
    "refusal": "the service refused to go on",
    "incomplete": "the service did not complete it",
}


def ending(reason: str | None, sent: ServerSentEvent | None = None) -> list[AgentEvent]:
    """The end of an answer for `reason`, and a word on it where that means that it is not complete."""
    done = Done(reason=reason, sent=sent)
    if reason not in CUT_SHORT:
        return [done]
    return [Notice(message=f"The answer was cut short: {CUT_SHORT[reason]} ({reason})."), done]


class Joiner:
    """Text in pieces that were cut by a server that counts in UTF-16.

    Such a server may cut between the two halves of a surrogate pair; JSON carries each half as an
    escape of its own. The halves are put together again; one that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """`piece` as far as its characters are whole."""
        if not self._half and piece.isascii():
            return piece
        piece = self._half + piece
        self._half = piece[-1] if piece and "\ud800" <= piece[-1] <= "\udbff" else ""
        return well_formed(piece[: len(piece) - len(self._half)])

    def flush(self) -> str:
        """The replacement of a half that nothing followed."""
        half, self._half = self._half, ""
        return well_formed(half)


def well_formed(piece: str) -> str:
    """`piece` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# CPython reads no integer of more digits (sys.get_int_max_str_digits), and nobody counts so far.
LONGEST_INTEGER = 4000
_DECODE = msgspec.json.Decoder().decode


def read_json(data: str | bytes) -> Any:
    """`data` parsed as JSON.

    msgspec reads what is well formed. What it refuses but JSON's grammar allows (a lone surrogate) is read
    by the standard library; a number that no number can hold stays text. Raises ValueError for anything else.
    """
    try:
        return _DECODE(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        pass
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def _real(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_object(sent: ServerSentEvent) -> dict[str, Any]:
    """The JSON object in `sent`. Raises `ProtocolError` where there is none."""
    try:
        value = read_json(sent.data)
    except ValueError:
        raise ProtocolError(
            f"The server sent a {sent.event or 'message'!r} event whose data is not JSON.", sent.data
        ) from None
    if not isinstance(value, dict):
        raise ProtocolError(f"The server sent a {sent.event or 'message'!r} event whose data is no object.", sent.data)
    return value


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none where `value` is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """`value` where it is a string, well formed; else None."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else well_formed(value)


def to_json(value: object) -> str:
    """`value`, which was read from JSON, as JSON again. Raises `ProtocolError` where it is nested too deep."""
    try:
        return well_formed(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise ProtocolError("The server sent JSON that is nested too deep.") from None


def integer(value: object) -> int | None:
    """`value` where it is a whole number from 0 up; else None (a bool is no number)."""
    return value if type(value) is int and value >= 0 else None


def number(value: object) -> float | None:
    """`value` in seconds or the like where it is a finite number from 0 up; else None."""
    if type(value) is int or type(value) is float:
        return float(value) if 0 <= value < 1e15 else None  # NaN compares false
    return None


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


def error_of(failure: HTTPFailure) -> AgentMagicError:
    """The error for a failed reply, by its status, in the server's own words where it has any."""
    code, said, retry_after = _read_failure(failure)
    where = f"{failure.host} answered {failure.status}"
    words = f": {_sentence(said)}" if said else "."
    key = f" Check the key in {failure.key_env}." if failure.key_env else " Check the key (the setting key_env)."
    match failure.status:
        case 401 | 403:
            return AuthError(f"{where}, it refused the key{words}{key}")
        case 402:
            return AgentError(f"{where}, it asks for payment{words} Check the account's plan.", code or "402", said)
        case 429:
            wait = "" if retry_after is None else f" It asks to wait {retry_after:g} s."
            return RateLimited(f"{where}, too many requests{words}{wait}", retry_after)
        case status if 300 <= status < 400:
            return AgentError(
                f"{where}, a redirect, which is not followed with a key; set base_url to where it points.", str(status)
            )
        case status if status >= 500:
            return AgentError(f"{where}, the server failed{words}", code or str(status), said, retry_after)
        case 404:
            return AgentError(f"{where}, not found{words} Check the agent's id and base_url.", code or "404", said)
        case status:
            advice = "Check the prompt and the parameters."
            return AgentError(f"{where}{words} {advice}", code or str(status), said, retry_after)


def _sentence(words: str) -> str:
    words = " ".join(words.split())[:500]
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _read_failure(failure: HTTPFailure) -> tuple[str | None, str, float | None]:
    """The code, the message and the wait in a failed reply, in any of the shapes that are documented."""
    try:
        body = read_json(failure.body)
    except ValueError:
        return None, "", failure.retry_after
    if not isinstance(body, dict):
        return None, "", failure.retry_after
    error = body.get("error")
    inner = error if isinstance(error, dict) else {}
    details = inner.get("details")
    retry_after = (
        failure.retry_after
        if failure.retry_after is not None
        else number(inner.get("retry_after"))
        or number(details.get("retry_after") if isinstance(details, dict) else None)
    )
    said = _first_text(body.get("detail"), inner.get("message"), body.get("message"), error, body.get("title"))
    suggestion = text(inner.get("suggestion")) or text(body.get("suggestion"))
    if suggestion:
        said = f"{_sentence(said)} {suggestion}" if said else suggestion
    return text(inner.get("code")) or text(body.get("code")), said, retry_after


def _first_text(*candidates: object) -> str:
    for candidate in candidates:
        if isinstance(candidate, list):
            # FastAPI's 422: a list of {type, loc, msg, input}
            parts = [_location(entry) for entry in candidate if isinstance(entry, dict)]
            if parts:
                return "; ".join(parts)
        elif words := text(candidate):
            return words
    return ""


def _location(entry: Mapping[str, object]) -> str:
    place = entry.get("loc")
    path = ".".join(str(part) for part in place) if isinstance(place, list) else ""
    message = text(entry.get("msg")) or "invalid"
    return f"{path}: {message}" if path else message
