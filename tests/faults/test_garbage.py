"""Bytes, JSON, fields and orders of events that no document allows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from agent_magic.errors import ProtocolError, StreamLost
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.testing import ScriptedServer, event_stream, in_turn, run_against, says
from tests.faults._cases import ONCE, PATIENT, Case, complaints

Events = list[tuple[str, Any]]
MISSING = object()
WRONG: list[Any] = [
    MISSING, None, True, False, -1, 0, 7, 10**30, -(10**30), 1.5, 1e300, "", "x", "7", "\x00", "\ud83e", [], ["x"], {}, {"a": 1},
    [[[[]]]],
]  # fmt: skip


def chunk(content: Any, index: Any = MISSING) -> tuple[str, Any]:
    return "chunk", {"content": content} | ({} if index is MISSING else {"index": index})


def delta(text: Any, item: Any = 0) -> tuple[str, Any]:
    return "response.output_text.delta", {
        "seq_id": 3,
        "type": "response.output_text.delta",
        "response": {"output_index": item, "type": "message.answer", "delta": text},
    }


RUNAGENT: Events = [
    ("start", {"message": "Stream started", "session_id": "s"}),
    chunk("Once ", 0),
    chunk("upon ", 1),
    chunk("a time", 2),
    ("done", {"message": "Stream complete", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "execution_time": 1.5}),
]  # fmt: skip
FOUND = {"citation_uri": "https://a.example", "title": "T", "snippet": "S", "url": "https://b.example", "source_type": "web_search"}  # fmt: skip
YOU: Events = [
    ("response.created", {"seq_id": 0, "type": "response.created"}),
    ("response.output_item.added", {"seq_id": 2, "response": {"output_index": 0}}),
    ("response.output_content.full", {"seq_id": 2, "response": {"output_index": 0, "type": "web_search.results", "full": [FOUND]}}),
    delta("Once "),
    delta("upon "),
    delta("a time"),
    ("response.done", {"seq_id": 9, "response": {"run_time_ms": "29.862", "finished": True}}),
]  # fmt: skip
WHOLE = "Once upon a time"
PIECES = ["Once ", "upon ", "a time"]


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each field in `value`, however deep, and to `value` itself."""
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from paths(below, (*above, key))


def spoiled(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    """A copy of `value` in which the field at `path` is `wrong`, or is not there."""
    if not path:
        return {} if wrong is MISSING else json.dumps(wrong)
    whole = copy.deepcopy(value)
    place = whole
    for key in path[:-1]:
        place = place[key]
    if wrong is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = wrong
    return whole


def _runagent_due(name: str, path: tuple[Any, ...], wrong: Any) -> tuple[str, str, int]:
    """Status, text and notices of a RunAgent stream whose second chunk, or other event, is spoiled."""
    if name != "chunk":
        return "done", WHOLE, 0
    if path == ("content",):
        if not isinstance(wrong, str):
            return "failed", "Once ", 0
        return "done", f"Once {wrong}a time".replace("\ud83e", "\N{REPLACEMENT CHARACTER}"), 0
    if path == ("index",):
        if type(wrong) is not int or wrong < 0:
            return "done", WHOLE, 0
        # 0 has been; 7 and 10**30 are beyond a gap, and what follows comes too late.
        return ("done", "Once a time", 2) if wrong == 0 else ("done", "Once upon ", 2)
    return "failed", "Once ", 0


def _you_due(name: str, path: tuple[Any, ...], wrong: Any) -> tuple[str, str, int]:
    """The same for You.com's."""
    if name != "response.output_text.delta":
        return "done", WHOLE, 0
    if path in {("seq_id",), ("type",)}:
        return "done", WHOLE, 0
    if path == ("response", "delta"):
        if not isinstance(wrong, str):
            return "failed", "Once ", 0
        return "done", f"Once {wrong}a time".replace("\ud83e", "\N{REPLACEMENT CHARACTER}"), 0
    if path == ("response", "type"):
        return ("done", "Once a time", 0) if isinstance(wrong, str) else ("done", WHOLE, 0)
    if path == ("response", "output_index"):
        if wrong is MISSING or (type(wrong) is int and wrong == 0):
            return "done", WHOLE, 0
        return ("done", "Once a timeupon ", 0) if type(wrong) is int and wrong > 0 else ("failed", "Once ", 0)
    return "failed", "Once ", 0


def fields() -> Iterator[Case]:
    """Each field of each kind of event, with each wrong value."""
    for protocol, events, due in ((RunAgent(), RUNAGENT, _runagent_due), (You(), YOU, _you_due)):
        spoilt = {name: place for place, (name, _) in reversed(list(enumerate(events)))}
        spoilt["chunk" if protocol.name == "runagent" else "response.output_text.delta"] += 1
        for name, place in spoilt.items():
            for path in paths(events[place][1]):
                for wrong in WRONG:
                    sent = [*events[:place], (name, spoiled(events[place][1], path, wrong)), *events[place + 1 :]]
                    status, text, notices = due(name, path, wrong)
                    shown = "missing" if wrong is MISSING else repr(wrong)[:30]
                    yield Case(
                        f"{protocol.name}: {name} {'.'.join(map(str, path))} = {shown}",
                        says(event_stream(*sent)),
                        protocol,
                        ONCE,
                        status,  # type: ignore[arg-type]
                        text,
                        notices=notices,
                    )


def indices() -> Iterator[Case]:
    """Places of chunks that repeat, jump, fall, are negative or huge."""
    orders: dict[str, tuple[list[Any], str, int]] = {
        "in order": ([0, 1, 2, 3], "abcd", 0),
        "from 1": ([1, 2, 3, 4], "abcd", 0),
        "one repeated": ([0, 1, 1, 2], "abd", 1),
        "all the same": ([0, 0, 0, 0], "a", 3),
        "a jump": ([0, 1, 5, 6], "abcd", 1),
        "a fall": ([0, 3, 1, 2], "ab", 3),
        "backwards": ([3, 2, 1, 0], "a", 3),
        "negative": ([-1, -2, -3, -4], "abcd", 0),
        "huge": ([0, 10**18, 10**30, 10**30 + 1], "abcd", 2),
        "fractions": ([0.0, 1.0, 2.0, 3.0], "abcd", 0),
        "words": (["0", "1", "2", "3"], "abcd", 0),
        "booleans": ([False, True, False, True], "abcd", 0),
        "only some": ([0, MISSING, 1, MISSING], "abcd", 0),
    }
    for name, (order, text, notices) in orders.items():
        chunks = [chunk(letter, index) for letter, index in zip("abcd", order, strict=True)]
        stream = event_stream(RUNAGENT[0], *chunks, RUNAGENT[-1])
        yield Case(f"runagent: indices {name}", says(stream), RunAgent(), PATIENT, "done", text, notices=notices)
    items: dict[str, tuple[list[Any], str]] = {
        "in order": ([0, 0, 1, 1], "abcd"),
        "falling": ([3, 2, 1, 0], "dcba"),
        "huge": ([10**30, 0, 10**18, 0], "bdca"),
    }
    for name, (order, text) in items.items():
        deltas = [delta(letter, item) for letter, item in zip("abcd", order, strict=True)]
        yield Case(f"you: items {name}", says(event_stream(YOU[0], *deltas, YOU[-1])), You(), PATIENT, "done", text)
    negative = event_stream(YOU[0], delta("a"), delta("b", -1), YOU[-1])
    yield Case("you: items negative", says(negative), You(), PATIENT, "failed", "a", ProtocolError)


def endings() -> Iterator[Case]:
    """Two ends, words after the end, no end."""
    for protocol, events in ((RunAgent(), RUNAGENT), (You(), YOU)):
        name, end, more = protocol.name, events[-1], events[-2]
        error = ("error", {"error": "No", "code": "X"})
        yield Case(f"{name}: two ends", says(event_stream(*events, end)), protocol, PATIENT, "done", WHOLE, requests=1)
        yield Case(f"{name}: text after the end", says(event_stream(*events, more, end)), protocol, PATIENT, "done", WHOLE)  # fmt: skip
        yield Case(f"{name}: an error after the end", says(event_stream(*events, error)), protocol, PATIENT, "done", WHOLE)  # fmt: skip
        yield Case(f"{name}: an end after an error", says(event_stream(*events[:-1], error, end)), protocol, PATIENT, "failed", WHOLE)  # fmt: skip
        yield Case(f"{name}: no end", says(event_stream(*events[:-1])), protocol, ONCE, "failed", WHOLE, StreamLost)
        yield Case(f"{name}: only an end", says(event_stream(end)), protocol, PATIENT, "done", "")
        yield Case(f"{name}: the end first", says(event_stream(end, *events)), protocol, PATIENT, "done", "")
        yield Case(f"{name}: an end without its empty line", says(event_stream(*events)[:-1]), protocol, ONCE, "failed", WHOLE, StreamLost)  # fmt: skip
        for data in ("", "{", "null", "[DONE]", "\x00", "[" * 100_000):
            sent = event_stream(*events[:-1], (end[0], data))
            yield Case(f"{name}: an end that says {data[:9]!r}", says(sent), protocol, PATIENT, "done", WHOLE)


def _raw_chunk(content: bytes) -> bytes:
    return b'event: chunk\ndata: {"content": "' + content + b'"}\n\n'


def _raw_delta(content: bytes) -> bytes:
    return b'event: response.output_text.delta\ndata: {"response": {"delta": "' + content + b'"}}\n\n'


def bytes_and_json() -> Iterator[Case]:
    """Bytes that are no text, text that is no JSON, JSON that is no object."""
    bad = "\N{REPLACEMENT CHARACTER}"
    texts: dict[str, tuple[bytes, str]] = {
        "invalid UTF-8": (b"a\xffb\xc3", f"a{bad}b{bad}"),
        "overlong UTF-8": (b"a\xc0\xafb", f"a{bad}{bad}b"),
        "UTF-8 of a surrogate": (b"a\xed\xa0\x80b", f"a{bad}{bad}{bad}b"),
        "an escaped NUL": (b"a\\u0000b", "a\x00b"),
        "a lone high surrogate": (b"a\\ud83eb", f"a{bad}b"),
        "a lone low surrogate": (b"a\\uddecb", f"a{bad}b"),
        "surrogates the wrong way round": (b"\\uddec\\ud83e", bad * 2),
        "a high one at the end": (b"a\\ud83e", f"a{bad}"),
        "line ends that are none": ("a\u2028\u2029\u0085\x0b\x0cb".encode(), "a\u2028\u2029\u0085\x0b\x0cb"),
        "bidi and escapes": ("\u202eabc\\u001b[31m".encode(), "\u202eabc\x1b[31m"),
        "a byte order mark": (b"\xef\xbb\xbfa", "\ufeffa"),
        "a million characters": (b"y" * 1_000_000, "y" * 1_000_000),
    }
    for protocol, events, raw in ((RunAgent(), RUNAGENT, _raw_chunk), (You(), YOU, _raw_delta)):
        first, last, name = event_stream(events[0]), event_stream(events[-1]), protocol.name
        for what, (content, text) in texts.items():
            # Control characters stand in no JSON text unescaped; msgspec says so, json.loads too.
            status = "failed" if what == "line ends that are none" else "done"
            sent = first + raw(content) + last
            yield Case(f"{name}: {what}", says(sent), protocol, ONCE, status, text if status == "done" else "")  # type: ignore[arg-type]
        for data in _no_objects():
            kind = "chunk" if name == "runagent" else "response.output_text.delta"
            sent = first + raw(b"ok") + f"event: {kind}\n".encode() + b"data: " + data + b"\n\n" + last
            yield Case(f"{name}: data {data[:24]!r}", says(sent), protocol, ONCE, "failed", "ok", ProtocolError)
        for noise in (b"\x00\n\n", b"\xff\xfe\n\n", b":\n\n" * 9, b"data\n\n", b"event\n\n", b"\n" * 99, b"id: \x00\n\n", b"retry: x\n\n", b"event: \xff\ndata: {}\n\n", b"event: __class__\ndata: {}\n\n"):  # fmt: skip
            sent = first + noise + raw(b"ok") + noise + last
            yield Case(f"{name}: noise {noise[:20]!r}", says(sent), protocol, ONCE, "done", "ok")


def _no_objects() -> Iterator[bytes]:
    yield from (
        b"",
        b"{",
        b"}",
        b"null",
        b"1",
        b"[]",
        b'"x"',
        b"NaN",
        b"\x00",
        b"{'a': 1}",
        b'{"content": NaN}',
        b"\xff",
    )
    yield b"[" * 100_000
    yield b'{"content": ' * 100_000
    yield b'{"content":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield b"9" * 10_000


def numbers() -> Iterator[Case]:
    """Numbers of any length and kind, where a number is allowed: the text is not touched by them."""
    for digits in ("9" * 10_000, "-" + "9" * 10_000, "0." + "9" * 10_000, "1e999", "-1e999", "1e-999", "1E+400", "-0"):
        start = event_stream(RUNAGENT[0]) + _raw_chunk(b"Once ")
        odd = f'event: chunk\ndata: {{"content": "upon ", "x": {digits}}}\n\n'.encode()
        done = f'event: done\ndata: {{"execution_time": {digits}, "usage": {{"total_tokens": {digits}}}}}\n\n'.encode()
        yield Case(f"runagent: {digits[:9]} ({len(digits)})", says(start + odd + _raw_chunk(b"a time") + done), RunAgent(), ONCE, "done", WHOLE)  # fmt: skip
        odd = f'event: response.output_text.delta\ndata: {{"seq_id": {digits}, "response": {{"delta": "x"}}}}\n\n'.encode()
        done = f'event: response.done\ndata: {{"response": {{"run_time_ms": {digits}}}}}\n\n'.encode()
        yield Case(f"you: {digits[:9]} ({len(digits)})", says(odd + done), You(), ONCE, "done", "x")


def cases() -> Iterator[Case]:
    """All of this family."""
    yield from fields()
    yield from indices()
    yield from endings()
    yield from bytes_and_json()
    yield from numbers()


def test_fields() -> None:
    """A field that is not needed may be anything; one that is needed fails the run, and what came before is kept."""
    assert complaints(fields()) == []


def test_indices() -> None:
    """What is left out or missing is said, each time."""
    assert complaints(indices()) == []


def test_endings() -> None:
    """There is one end, the first one."""
    assert complaints(endings()) == []


def test_bytes_and_json() -> None:
    """What is no text becomes a replacement character; what is no JSON ends the run."""
    assert complaints(bytes_and_json()) == []


def test_numbers() -> None:
    """A number that nobody can count to costs no text."""
    assert complaints(numbers()) == []


def _answers(*texts: str, start: int = 0) -> bytes:
    return event_stream(RUNAGENT[0], *[chunk(text, start + place) for place, text in enumerate(texts)], RUNAGENT[-1])


def test_another_answer_is_not_mixed_in() -> None:
    """A server that ignores the resume and answers anew, in other words, does not get two answers made into one."""
    first = event_stream(RUNAGENT[0], chunk("The sky ", 0), chunk("is blue ", 1))
    anew = _answers("Blue is ", "the sky, ", "as we know", ".")
    with ScriptedServer(in_turn(says(first), says(anew))) as server:
        run = run_against(server.url, RunAgent(), PATIENT)
    assert isinstance(run.transcript.error, ProtocolError)
    assert "another answer" in str(run.transcript.error)
    assert run.transcript.text == "The sky is blue "


def test_a_resume_that_counts_anew_loses_nothing_without_a_word() -> None:
    """A server that takes the stream up rightly, but numbers its chunks from 0 again, cannot be told from a repeat."""
    first = event_stream(RUNAGENT[0], chunk("one ", 0), chunk("two ", 1))
    with ScriptedServer(in_turn(says(first), says(_answers("three ", "four")))) as server:
        run = run_against(server.url, RunAgent(), PATIENT)
    assert isinstance(run.transcript.error, ProtocolError)
    assert run.transcript.text == "one two "


def test_an_answer_that_ends_before_its_own_words() -> None:
    """A server that begins anew and ends before the place that it had reached: that is said."""
    first = event_stream(RUNAGENT[0], chunk("a", 0), chunk("b", 1), chunk("c", 2))
    with ScriptedServer(in_turn(says(first), says(_answers("a")))) as server:
        run = run_against(server.url, RunAgent(), PATIENT)
    assert (run.transcript.status, run.transcript.text) == ("done", "abc")
    assert run.transcript.notices == ["The server ended the answer at chunk 0, though it had sent chunk 2 before."]


def test_a_chunk_that_comes_late_is_said_to_be_late() -> None:
    """A chunk that was missing and comes after all is not one that came again."""
    sent = event_stream(RUNAGENT[0], chunk("a", 0), chunk("c", 2), chunk("b", 1), chunk("d", 3), RUNAGENT[-1])
    with ScriptedServer(says(sent)) as server:
        run = run_against(server.url, RunAgent(), PATIENT)
    assert run.transcript.text == "acd"
    assert run.transcript.notices == [
        "Chunk 1 is missing here: the server skipped them.",
        "Chunk 1 came too late and was left out.",
    ]


def test_deep_json_is_read_within_bounds() -> None:
    """A reply nested beyond all bounds is a broken reply."""
    for body in (b'{"result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", json.dumps({"result": "x"}).encode()[:-1]):
        with ScriptedServer(says(body, content_type="application/json")) as server:
            run = run_against(server.url, RunAgent(), PATIENT)
        assert isinstance(run.transcript.error, ProtocolError)
