"""How an answer ends: for what reason, with which figures, or in which error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_magic.errors import AgentError, AgentMagicError, AuthError, RateLimited
from agent_magic.events import AgentEvent, Done, Notice, ServerSentEvent, Usage
from agent_magic.protocols._base import HTTPFailure
from agent_magic.protocols._json import integer, number, read_json, text

__all__ = ["ending", "error_of", "usage_of"]

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
# And where it ends for somebody to go on with it.
CALLS = frozenset({"function_call", "tool_calls", "tool_use"})


def ending(reason: str | None, sent: ServerSentEvent | None = None) -> list[AgentEvent]:
    """The end of an answer for `reason`, and a word on it where that means that it is not complete."""
    done = Done(reason=reason, sent=sent)
    if reason in CALLS:
        return [Notice(message=f"The model asks for tools to be called ({reason}), and nobody here calls any."), done]
    if reason not in CUT_SHORT:
        return [done]
    return [Notice(message=f"The answer was cut short: {CUT_SHORT[reason]} ({reason})."), done]


def usage_of(usage: dict[str, Any], sent: ServerSentEvent) -> Usage:
    """The tokens that a server tells, under either of the names that are common; `raw` is its own object."""
    return Usage(
        input_tokens=integer(usage.get("input_tokens", usage.get("prompt_tokens"))),
        output_tokens=integer(usage.get("output_tokens", usage.get("completion_tokens"))),
        total_tokens=integer(usage.get("total_tokens")),
        raw=usage,
        sent=sent,
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
