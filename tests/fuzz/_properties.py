"""The properties: what holds for any input, and what share of the examples each gets, by what one costs."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from httpx_sse import EventSource
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent_magic._blocks import Blocks
from agent_magic._config import load_settings
from agent_magic._deck import replay
from agent_magic._echo import guarded
from agent_magic._keys import Secret
from agent_magic._request import AgentRequest
from agent_magic._tape import VERSION, Header, Heard, Outcome, Question, encode_lines, peek, read_tape
from agent_magic._template import fill
from agent_magic._transcript import Transcript
from agent_magic.errors import AgentMagicError, ConfigError, PromptError, ProtocolError
from agent_magic.events import ServerSentEvent
from agent_magic.protocols import AgentProtocol
from agent_magic.protocols._json import well_formed
from agent_magic.protocols.runagent import RunAgent
from agent_magic.protocols.you import You
from agent_magic.views._markdown import inert
from agent_magic.views._segments import COUNT, Segments, settled

__all__ = ["PROPERTIES", "Property"]


@dataclass(frozen=True)
class Property:
    """`check` holds for any value of `values`; `share` is how many of 100,000 examples it gets."""

    name: str
    share: int
    values: st.SearchStrategy[Any]
    check: Callable[[Any], None]

    def try_out(self, examples: int, *, derandomize: bool) -> None:
        """Check that many examples; raises what the smallest failing one raises."""
        options = settings(
            max_examples=examples,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        options(given(self.values)(self.check))()


class Choices:
    """Choices that a string of bytes makes: one draw of hypothesis's for a whole value, a hundred times as fast."""

    def __init__(self, made: bytes) -> None:
        self._made = made
        self._place = 0

    def below(self, most: int) -> int:
        """A number from 0 up to `most`, without it; 0 when the bytes are used up."""
        self._place += 1
        return self._made[self._place - 1] % most if self._place <= len(self._made) else 0

    def of(self, values: Sequence[Any]) -> Any:
        """One of `values`."""
        return values[self.below(len(values))]

    def rest(self, most: int) -> bytes:
        """Bytes as they are, up to `most`."""
        start = self._place
        self._place += self.below(most)
        return self._made[start + 1 : self._place]

    def text(self) -> str:
        """A short text of any kind."""
        return "".join(self.of(CHARACTERS) for _ in range(self.below(5)))

    def places(self, most: int, last: int) -> list[int]:
        """Up to `most` places up to `last`, in order."""
        return sorted(self.below(256) * last // 255 for _ in range(self.below(most + 1)))

    def left(self) -> bool:
        """Whether there are bytes left."""
        return self._place < len(self._made)


CHARACTERS = ["a", "b", " ", "{", "}", '"', "\\", "\n", "\r", "\0", "\x1b", "<", "é", "\u200b", "\u2028", "\ud83d", "\ude00", "\U0001f600", "\ufeff", "0", "-", "_", "%", "[", "]", "'"]  # fmt: skip


def _made(most: int, make: Callable[[Choices], Any]) -> st.SearchStrategy[Any]:
    return st.binary(max_size=most).map(lambda made: make(Choices(made)))


def _sentence(error: AgentMagicError) -> None:
    said = str(error)
    assert len(said.splitlines()) == 1, said
    assert said.endswith((".", "?", "!")), said


# Server-sent events


def plain_reading(stream: bytes) -> list[tuple[str, str, str]]:
    """WHATWG HTML, 9.2.6, line by line."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[tuple[str, str, str]] = []
    data: list[str] = []
    name = identity = pending = ""
    *lines, _ = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "" if not line:
                identity = pending
                if data:
                    events.append((name if name != "message" else "", "\n".join(data), identity))
                data, name = [], ""
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id" if "\0" not in value:
                pending = value
            case _:
                pass
    return events


def product_reading(pieces: Sequence[bytes]) -> list[tuple[str, str, str]]:
    """The same by the product's way: `_blocks`, then httpx-sse."""
    blocks = Blocks(10_000)
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    reply = httpx.Response(200, headers=headers, content=iter([blocks.feed(piece) for piece in pieces]))
    return [(one.event if one.event != "message" else "", one.data, one.id) for one in EventSource(reply).iter_sse()]


LINES = [b"data", b"data:", b"data: x", b"data:  y", b"event: a", b"event", b"id: 1", b"id", b"id: \0", b":", b": c",
         b"retry: 5", b"retry:+5", b"", b"", b"", b" data: z", b"\xef\xbb\xbfdata: b", b"data: \xe2\x80\xa8", b"DATA: n", b"data\xff: k", None, None]  # fmt: skip
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"]


def _pieces(choices: Choices) -> list[bytes]:
    places, stream = choices.places(6, 100), b""
    while choices.left():
        line = choices.of(LINES)
        stream += (choices.rest(12) if line is None else line) + choices.of(ENDS)
    return _cut(stream, places)


def _cut(whole: Any, places: Sequence[int]) -> list[Any]:
    return [whole[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]


def read_alike(pieces: Sequence[bytes]) -> None:
    """However a stream is cut, it is read as the standard says."""
    assert product_reading(pieces) == plain_reading(b"".join(pieces))


# Decoders

LEAVES = [None, True, False, 0, 1, 2, 3, -1, 10**30, 1.5, 1e308, "x", "", "\ud83d", "\ude00", "x\ud83d", "CAPACITY_ERROR", "message.answer", "web_search.results",
          "research.results", "compute.results", "live_crawl.results"]  # fmt: skip


def _json(choices: Choices, fields: Sequence[str], depth: int = 0) -> Any:
    match choices.below(4 if depth < 4 else 2):
        case 0:
            return choices.of(LEAVES)
        case 1:
            return choices.text()
        case 2:
            return [_json(choices, fields, depth + 1) for _ in range(choices.below(4))]
        case _:
            return {choices.of(fields): _json(choices, fields, depth + 1) for _ in range(choices.below(5))}


RUNAGENT = (
    ["chunk", "chunk", "chunk", "start", "error", "done", "", "message", "x"],
    ["content", "content", "index", "session_id", "usage", "metadata", "execution_time", "error", "code", "retry_after", "result", "data", "input_tokens"],
)  # fmt: skip
YOU = (
    ["response.output_text.delta", "response.output_text.delta", "response.output_content.full", "response.done", "error", "response.created", "x"],
    ["type", "response", "delta", "output_index", "full", "url", "title", "sources", "report", "run_time_ms", "finished", "error", "message", "output", "text"],
)  # fmt: skip


def _step(choices: Choices, names: Sequence[str], fields: Sequence[str]) -> ServerSentEvent | bytes | None:
    match choices.below(10):
        case 0:
            return None
        case 1:
            return choices.rest(20)
        case 2:
            return json.dumps({choices.of(fields): _json(choices, fields) for _ in range(3)}).encode()
        case 3:
            return ServerSentEvent(choices.of(names), choices.text())
        case 4:
            return ServerSentEvent(choices.of(names), json.dumps(_json(choices, fields)))
        case 5:
            return ServerSentEvent("chunk", json.dumps({"content": choices.text(), "index": choices.below(4)}))
        case _:
            said = {choices.of(fields): _json(choices, fields) for _ in range(choices.below(5))}
            return ServerSentEvent(choices.of(names), json.dumps(said))


ASK = AgentRequest("Why?", "http://127.0.0.1:1", "demo")


def decodes(protocol: AgentProtocol, steps: Sequence[ServerSentEvent | bytes | None]) -> None:
    """Whatever comes, a decoder raises nothing but ProtocolError, and its text can be written in any encoding."""
    decoder, transcript = protocol.decoder(ASK), Transcript()
    for step in steps:
        try:
            match step:
                case None:
                    decoder.resume()
                case bytes():
                    for event in decoder.whole(step):
                        transcript.apply(event)
                case _:
                    for event in decoder.decode(step):
                        transcript.apply(event)
        except ProtocolError as error:
            _sentence(error)
    for event in decoder.flush():
        transcript.apply(event)
    transcript.text.encode()
    repr(transcript.events)
    decoder.resume()


def _steps(wire: tuple[list[str], list[str]]) -> st.SearchStrategy[Any]:
    return _made(80, lambda choices: [_step(choices, *wire) for _ in range(10) if choices.left()])


# Keys

SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda key: quote(key, safe=""),
    lambda key: json.dumps(key)[1:-1],
    lambda key: base64.b64encode(key.encode()).decode(),
    lambda key: base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
]


def _echo(choices: Choices) -> tuple[str, Callable[[str], str], str, list[int]]:
    key = "".join(chr(0x21 + choices.below(0x5E)) for _ in range(8 + choices.below(24)))
    return key, choices.of(SPELLINGS), choices.text(), choices.places(6, 60)


def never_echoes(made: tuple[str, Callable[[str], str], str, list[int]]) -> None:
    """However a server spells and cuts a key, the answer does not hold it; what stands before it is all there."""
    key, spell, before, places = made
    said = spell(key)
    decoder, transcript = guarded(RunAgent().decoder(ASK), [Secret(key)]), Transcript()
    for index, piece in enumerate(_cut(f"{before}\n{said}\n", places)):
        data = json.dumps({"content": piece, "index": index})
        for event in decoder.decode(ServerSentEvent("chunk", data)):
            transcript.apply(event)
    for event in decoder.flush():
        transcript.apply(event)
    assert said not in transcript.text
    assert key not in transcript.text
    whole = well_formed(before)
    assert transcript.text.startswith(f"{whole}\n") or key in whole


# Settings


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="agent_magic-fuzz-"))
    for name in [name for name in os.environ if name.startswith("AGENT_MAGIC_CONFIG")]:
        del os.environ[name]
    os.environ["XDG_CONFIG_HOME"] = str(folder / "user")
    return folder


TOML_NAMES = ["agents", "default", "journal", "allow_hosts", "allow_keys", "protocol", "agent", "base_url", "key_env", "auth", "parameters",
              "headers", "timeout", "retries", "price", "max_cost", "verify", "images", "max_event", "embedded", "agnet"]  # fmt: skip
TOML_VALUES = ["1", "-1", "1.5", "nan", "inf", "true", '"x"', '""', "[]", "{}", '["a"]', "{ a = 1 }", "{ input = 1.0, output = nan }", '"https://a.example"',
               '"http://u:p@h"', '"runagent"', '"you"', '"\\u0000"', "1979-05-27", "[[1]]", '["[::1]:80"]']  # fmt: skip
TOML_HEADS = ["[agents.a]", "[agents.b]", "[agents]", "[[agents]]", "[agents.a.headers]", '[agents."x y"]', "# c", ""]


def _toml(choices: Choices) -> bytes:
    lines = []
    while choices.left():
        match choices.below(8):
            case 0:
                lines.append(choices.text().encode("utf-8", "surrogatepass"))
            case 1:
                lines.append(choices.rest(10))
            case 2:
                lines.append(choices.of(TOML_HEADS).encode())
            case _:
                lines.append(f"{choices.of(TOML_NAMES)} = {choices.of(TOML_VALUES)}".encode())
    return b"\n".join(lines)


def reads_settings(content: bytes) -> None:
    """Any file is settings, or one sentence that names it."""
    path = _folder() / "agent_magic.toml"
    path.write_bytes(content)
    try:
        found = load_settings(_folder())
    except ConfigError as error:
        _sentence(error)
        assert str(path) in str(error)  # noqa: PT017 (either outcome is a good one)
    else:
        found.agent(None)


# Templates


class Trap:
    """What a template must not reach: neither this object's own parts nor the interpreter's."""

    name = "harmless"
    _private = "REACHED"
    __reached__ = "REACHED"

    def method(self) -> str:
        return "harmless"

    def __str__(self) -> str:
        return "trap"


PARTS = [
    "__class__",
    "__reached__",
    "_private",
    "__init__",
    "__globals__",
    "__subclasses__",
    "__dict__",
    "name",
    "method",
    "mro",
    "__func__",
]
PATHS = [
    ".{}",
    "['{}']",
    "|attr('{}')",
    "|map(attribute='{}')|list",
    "|sort(attribute='{}')",
    "|join(attribute='{}')",
    "|groupby('{}')",
    "|selectattr('{}')|list",
    "|sum(attribute='{}', start='')",
]
STEPS = [
    "()",
    "|string",
    "|list",
    "[0]",
    "|first",
    "|format",
    "|upper",
    "|pprint",
    "|tojson",
    "|xmlattr",
    "['__cla'~'ss__']",
    "['__reac'~'hed__']",
]
STARTS = ["a", "many", "f", "'{0.__reached__}'.format(a)", "'{0._private}'.format(a)", "('%s' % a)", "'{a.__reached__}'.format_map({'a': a})",
          "''", "len", "self", "cycler", "namespace", "lipsum", "range", "a.method", "'{0.__reached__}'.format", "['{0._private}']", "max(many, key=f)", "sorted(many)"]  # fmt: skip


def _template(choices: Choices) -> str:
    if not choices.below(4):
        return "{{" + "".join(choices.of(list("{}%#ab.|_() '[]")) for _ in range(choices.below(20)))
    said = choices.of(STARTS)
    for _ in range(choices.below(5)):
        said += choices.of(PATHS).format(choices.of(PARTS)) if choices.below(3) else choices.of(STEPS)
    return f"x {{{{ {said} }}}} y"


def stays_in_the_sandbox(template: str) -> None:
    """An expression gives text or one sentence, and reaches nothing that begins with an underscore."""
    names = {"a": Trap(), "many": [Trap(), Trap()], "f": len, "b": "text"}
    try:
        said = fill(template, names).text
    except PromptError as error:
        said = str(error)
        _sentence(error)
    assert "REACHED" not in said
    assert "<class" not in said


def one_pass(values: list[str]) -> None:
    """What a value holds is text, also where it looks like a template; so is a text without braces."""
    names = {f"v{place}": value for place, value in enumerate(values)} | {"inner": "EVALUATED"}
    template = "|".join(f"{{{{ v{place} }}}}" for place in range(len(values)))
    assert fill(template, names).text == "|".join(values)
    plain = "".join(values).replace("{{", "{")
    assert "{{" in plain or fill(plain, names).text == plain


LOOKS = ["{{ inner }}", "{% raw %}", "{{", "}}", "{# c #}", "$x", "\r\n", "{{{ v0 }}}", "{{ v1 }}"]


def _values(choices: Choices) -> list[str]:
    return [
        "".join(choices.of([*LOOKS, *CHARACTERS]) for _ in range(choices.below(8))) for _ in range(1 + choices.below(4))
    ]


# Tapes

HEADER = Header(
    version=VERSION, run="abc", agent="demo", protocol="runagent", started=datetime(2026, 1, 1, tzinfo=UTC), host="h", pid=1,
    question=Question(prompt="Why?", base_url="http://127.0.0.1:1", agent="demo"),
)  # fmt: skip
WRITTEN = encode_lines(
    [HEADER, Heard(0.1, "start", '{"session_id": "s"}'), Heard(0.2, "chunk", '{"content": "Hi", "index": 0}'), Heard(0.3, "done", "{}"), Outcome(at=0.4, status="done")],
    [],
)  # fmt: skip
NEWS = [
    b"",
    b"\n",
    b"null",
    b"1e999",
    b'"\\ud800"',
    b"-1",
    b'{"kind":"resume","at":0}\n',
    b'{"kind":"reply","at":0,"body":"{}"}\n',
    b'{"kind":"flush","at":0}\n',
    b"nan",
    b"\xff",
    b"9" * 30,
]


def _tape(choices: Choices) -> bytes:
    if not choices.below(5):
        return choices.rest(60)
    count = choices.below(5)
    return _changed(
        WRITTEN, [(choices.below(256) * len(WRITTEN) // 255, choices.below(12), choices.of(NEWS)) for _ in range(count)]
    )


def _changed(tape: bytes, changes: Sequence[tuple[int, int, bytes]]) -> bytes:
    for place, length, new in changes:
        tape = tape[:place] + new + tape[place + length :]
    return tape


def reads_tape(content: bytes) -> None:
    """Any bytes are a tape that can be replayed, or one sentence that names it."""
    path = _folder() / "tape.jsonl"
    path.write_bytes(content)
    try:
        header, _ = peek(path)
        tape = read_tape(path)
        assert tape.header == header
        replay(tape, live=False).text.encode()
    except ConfigError as error:
        _sentence(error)


# Markdown

MARKS = ["# ", "\n", "\n\n", "```", "~~~", "`", "*", "**", "_", "[", "](", ")", "![", "<", ">", "<script>", "<!--", "-->", "</b>", "| a |", "|---|", "- ", "  ", "    ", "1. ",
         "$", "$$", "\\", "\\(", "\\[", "word ", "javascript:x", "https://a.example", "&lt;", "&", "\t", "\r\n", "<https://a.example>", "]: ", "\\href{x}{y}", "> ", "é", "\u2028", "\0"]  # fmt: skip
READER = MarkdownIt("commonmark", {"html": True}).enable("table")


def _markdown(choices: Choices) -> str:
    return "".join(choices.text() if not choices.below(6) else choices.of(MARKS) for _ in range(40) if choices.left())


def is_inert(text: str) -> None:
    """A reader who knows HTML finds none in what is shown, no image, and no link to anything that runs."""
    for token in READER.parse(inert(text)):
        assert token.type != "html_block", token.content
        for child in token.children or []:
            assert child.type not in {"html_inline", "image"}, child.content
            if child.type == "link_open":
                assert str(child.attrs["href"]).lower().startswith(("http://", "https://", "mailto:", "#")), child.attrs


def grows(made: tuple[str, list[int]]) -> None:
    """However an answer grows, what is shown is a part of it, in order, and never moves."""
    long = made[0] * 40
    segments, shown = Segments(COUNT), [""] * COUNT
    for end in [*made[1], len(long)]:
        for place, content in segments.update(long[:end]):
            assert content.startswith(shown[place])
            shown[place] = content
        assert long[:end].startswith("".join(shown))
        assert long[:end].startswith(settled(long[:end]))


def _growing(choices: Choices) -> tuple[str, list[int]]:
    places = choices.places(5, 3000)
    return _markdown(choices), places


PROPERTIES = (
    Property("server-sent events, as the standard reads them", 30_000, _made(60, _pieces), read_alike),
    Property("RunAgent's decoder", 13_000, _steps(RUNAGENT), lambda steps: decodes(RunAgent(), steps)),
    Property("You.com's decoder", 10_000, _steps(YOU), lambda steps: decodes(You(), steps)),
    Property("a key that is echoed", 3_000, _made(50, _echo), never_echoes),
    Property("settings files", 6_000, _made(40, _toml), reads_settings),
    Property("the templates' sandbox", 5_000, _made(24, _template), stays_in_the_sandbox),
    Property("templates in one pass", 3_000, _made(30, _values), one_pass),
    Property("tapes", 10_000, _made(60, _tape), reads_tape),
    Property("inert Markdown", 14_000, _made(80, _markdown), is_inert),
    Property("segments", 6_000, _made(80, _growing), grows),
)
