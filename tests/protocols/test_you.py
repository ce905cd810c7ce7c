"""The You.com wire, by You.com's page and the documented variants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_magic._keys import Secret
from agent_magic._request import AgentRequest
from agent_magic.errors import ConfigError, ProtocolError
from agent_magic.events import AgentEvent, Artifact, Done, Progress, ServerSentEvent, Source, Unknown
from agent_magic.protocols.you import You
from agent_magic.testing import ProtocolContract, event_stream, fold

ASK = AgentRequest(prompt="Why?", base_url="https://api.you.com", agent="advanced")

# The page's excerpt, with the pieces that it omits left out.
PAGE = rb"""id: 0
event: response.created
data: {"seq_id": 0, "type": "response.created"}

id: 1
event: response.starting
data: {"seq_id": 1, "type": "response.starting"}

id: 2
event: response.output_item.added
data: {"seq_id": 2, "type": "response.output_item.added", "response": {"output_index": 0}}

id: 3
event: response.output_text.delta
data: {"seq_id": 3, "type": "response.output_text.delta", "response": {"output_index": 0, "type": "message.answer", "delta": "## \ud83e\uddec Microplastics: What Engineers Need to Know\n\n---\n\n> **Key Takeaway:**  \n> Microplastic"}}

id: 4
event: response.output_text.delta
data: {"seq_id": 4, "type": "response.output_text.delta", "response": {"output_index": 0, "type": "message.answer", "delta": "s are tiny plastic particles that are pervasive in the environment and can enter the human body through various"}}

id: 59
event: response.output_text.delta
data: {"seq_id": 59, "type": "response.output_text.delta", "response": {"output_index": 0, "type": "message.answer", "delta": " routes\u2014especially in materials science."}}

id: 62
event: response.output_item.done
data: {"seq_id": 62, "type": "response.output_item.done", "response": {"output_index": 0}}

id: 63
event: response.done
data: {"seq_id": 63, "type": "response.done", "response": {"run_time_ms": "29.862", "finished": true}}

"""
SEARCH = {
    "citation_uri": "https://c.example",
    "url": "https://u.example",
    "title": "T",
    "snippet": "S",
    "provider": "p",
}


def event(name: str, **response: Any) -> tuple[str, Any]:
    return name, {"seq_id": 0, "type": name, "response": response}


def delta(text: str, item: object = 0) -> tuple[str, Any]:
    return event("response.output_text.delta", output_index=item, type="message.answer", delta=text)


class TestPage(ProtocolContract):
    """The page's own excerpt."""

    protocol = You()
    recorded = PAGE
    expected = (
        "## \N{DNA DOUBLE HELIX} Microplastics: What Engineers Need to Know\n\n---\n\n> **Key Takeaway:**  \n"
        "> Microplastics are tiny plastic particles that are pervasive in the environment and can enter the human "
        "body through various routes\N{EM DASH}especially in materials science."
    )


class TestItems(ProtocolContract):
    """Several open items, sources, CRLF, and an older beginning with id 0."""

    protocol = You()
    recorded = event_stream(
        event("response.output_item.added", output_index=0),
        event("response.output_content.full", output_index=0, type="web_search.results", full=[SEARCH]),
        delta("second", 2),
        delta("fir", 1),
        delta("st, ", 1),
        event("response.done", run_time_ms="12", finished=True),
        newline="\r\n",
    )
    expected = "first, second"


def decode(*events: tuple[str, Any]) -> list[AgentEvent]:
    decoder = You().decoder(ASK)
    return [one for name, data in events for one in decoder.decode(ServerSentEvent(name, json.dumps(data)))]


@pytest.mark.parametrize(("auth", "header"), [(None, ("Authorization", "Bearer k")), ("x-api-key", ("X-API-Key", "k"))])
def test_request(auth: str | None, header: tuple[str, str]) -> None:
    """Body and path as the page has them; the key in the header that the setting names."""
    ask = AgentRequest("Why?", "https://api.you.com", "advanced", {"verbosity": "high"}, key=Secret("k"), auth=auth)
    request = You().request(ask)
    assert (request.url, request.body) == (
        "https://api.you.com/v1/agents/runs",
        {"agent": "advanced", "input": "Why?", "stream": True, "verbosity": "high"},
    )
    key = request.headers[header[0]]
    assert isinstance(key, Secret)
    assert key.reveal() == header[1]


@pytest.mark.parametrize("name", ["agent", "input", "stream"])
def test_own_fields_are_refused(name: str) -> None:
    """A parameter cannot take the place of a field that the wire fills."""
    with pytest.raises(ConfigError, match=name):
        You().request(AgentRequest("Why?", "https://api.you.com", "advanced", {name: 1}))


def test_sources() -> None:
    """A search result is a source; `url` is preferred to `citation_uri`, and one without either is none."""
    found = {"citation_uri": "https://only.example", "title": "O"}
    events = decode(
        event("response.output_content.full", type="web_search.results", full=[SEARCH, found, {"title": "x"}])
    )
    sources = [one for one in events if isinstance(one, Source)]
    assert [(one.url, one.title, one.snippet) for one in sources] == [
        ("https://u.example", "T", "S"),
        ("https://only.example", "O", ""),
    ]


@pytest.mark.parametrize(
    ("kind", "full", "data"),
    [
        ("research.results", {"report": "# R", "sources": [SEARCH]}, "# R"),
        ("compute.results", [{"expression": "1+1", "result": "2"}], '{"expression": "1+1", "result": "2"}'),
        ("live_crawl.results", [{"url": "https://u.example", "content": "page"}], "page"),
    ],
)
def test_older_contents_are_kept(kind: str, full: object, data: str) -> None:
    """The variants of older documents become artifacts."""
    artifacts = [
        one for one in decode(event("response.output_content.full", type=kind, full=full)) if isinstance(one, Artifact)
    ]
    assert [one.data for one in artifacts] == [data]


def test_contents_of_a_new_kind_are_kept() -> None:
    """A content that no document names is unknown, and kept."""
    (unknown,) = decode(event("response.output_content.full", type="x.results", full=[{}]))
    assert isinstance(unknown, Unknown)


def test_run_time_stays_verbatim() -> None:
    """The figure of doubtful unit is kept as it came, and execution_time stays None."""
    (done,) = decode(event("response.done", run_time_ms="29.862", finished=True))
    assert isinstance(done, Done)
    assert (done.run_time_ms, done.execution_time, done.reason) == ("29.862", None, None)


def test_unfinished_is_said() -> None:
    """`finished: false` is an answer that the server cut."""
    (done,) = decode(event("response.done", finished=False))
    assert isinstance(done, Done)
    assert done.reason == "unfinished"


def test_beginning_is_progress() -> None:
    """What happens before the text is progress."""
    events = decode(("response.starting", {}), event("response.output_item.added", output_index=0))
    assert all(isinstance(one, Progress) for one in events)


@pytest.mark.parametrize("item", [-1, "0", True, 1.0, None])
def test_text_of_no_item(item: object) -> None:
    """A delta of no item is a broken protocol: its place in the answer is not known."""
    with pytest.raises(ProtocolError, match="output_index"):
        decode(delta("x", item))


@pytest.mark.parametrize("response", [None, [], "x", {}, {"delta": None}, {"delta": 1}])
def test_delta_without_text(response: object) -> None:
    """A delta without text is a broken protocol."""
    with pytest.raises(ProtocolError):
        decode(("response.output_text.delta", {"response": response}))


def test_a_reply_that_is_not_streamed() -> None:
    """A JSON reply is a whole answer, with its sources."""
    body = {
        "agent": "express",
        "input": [{"role": "user", "content": "Why?"}],
        "output": [{"type": "web_search.results", "content": [SEARCH]}, {"type": "message.answer", "text": "Hi"}],
    }
    transcript = fold(list(You().decoder(ASK).whole(json.dumps(body).encode())))
    assert (transcript.text, [one.url for one in transcript.sources]) == ("Hi", ["https://u.example"])


def test_a_run_is_never_resumed() -> None:
    """A second POST would be a new, paid run."""
    assert You().decoder(ASK).resume() is None
