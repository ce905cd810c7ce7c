"""The figures of the main job, as a table in Markdown. Nothing is asserted: these machines are shared and noisy."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import EventSource

from agent_magic._policy import Policy
from agent_magic._request import AgentRequest
from agent_magic._run import Run
from agent_magic._taping import Taping
from agent_magic.demo._answers import Answer
from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import ScriptedServer, event_stream, head, run_against, says
from tests.benchmarks._browser import browser_rows
from tests.benchmarks._throng import throng_rows
from tests.kernel._kernel import Cell, Kernel, running_kernel
from tests.kernel._venvs import VERSIONS, kernel_python

Row = tuple[str, str, str, str]


def chunk(text: str, index: int) -> bytes:
    return event_stream(("chunk", {"content": text, "index": index}))


def mixed_markdown(size: int) -> str:
    """Headings, lists, tables, code and TeX, as the embedded agent writes them."""
    text, number = "", 0
    while len(text) < size:
        number += 1
        text += Answer(f"Question {number} about many things?", []).text + "\n"
    return text[:size]


@contextmanager
def agent_of(kernel: Kernel, url: str) -> Iterator[None]:
    """Settings in the kernel's folder under which the default agent is the server at `url`."""
    settings = Path(kernel.evaluate("__import__('os').getcwd()"), "agent_magic.toml")
    settings.write_text(f'[agents.it]\nprotocol = "runagent"\nbase_url = "{url}"\nkey_env = ""\n')
    yield
    settings.unlink()


@contextmanager
def kernel_of(version: str) -> Iterator[Kernel]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_kernel(kernel_python(version), Path(folder), AGENT_MAGIC_STATE=folder) as kernel,
    ):
        kernel.run("%load_ext agent_magic")
        kernel.run("%%agent demo -p stream_delay_ms=0\nWarm up.")
        yield kernel


def size_of(message: dict[str, Any]) -> int:
    """A message's bytes, headers included."""
    return sum(
        len(json.dumps(message[part], default=str)) for part in ("header", "parent_header", "metadata", "content")
    )


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _has_words(cell: Cell) -> bool:
    return "word word" in cell.painted and cell.button is not None


def _has_length(values: list[float], length: int) -> bool:
    return len(values) >= length


def stop_rows() -> Iterator[Row]:
    """A click on Stop to the server's sight of it, and to the cell's end."""
    for version in VERSIONS:
        gone: list[float] = []

        def endless(connection: socket.socket, _request: bytes, _number: int, gone: list[float] = gone) -> None:
            connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
            connection.settimeout(0.02)
            index = 0
            try:
                while True:
                    connection.sendall(chunk("word ", index))
                    index += 1
                    with suppress(TimeoutError):
                        if not connection.recv(1):
                            break
            except OSError:  # the send saw it first
                pass
            gone.append(time.monotonic())

        seen, ended = [], []
        with ScriptedServer(endless) as server, kernel_of(version) as kernel, agent_of(kernel, server.url):
            for turn in range(1, 21):
                cell = kernel.send("%%agent\nGo on.")
                kernel.read_until(partial(_has_words, cell))
                clicked = time.monotonic()
                assert cell.button is not None
                kernel.click(cell.button)
                kernel.wait_for(cell)
                kernel.read_until(partial(_has_length, gone, turn))
                seen.append(gone[-1] - clicked)
                ended.append(cell.times[-1] - clicked)
        figures = f"{percentile(seen, 0.95) * 1000:.0f} ms, {percentile(ended, 0.95) * 1000:.0f} ms"
        yield (
            f"Stop on ipykernel {version}: click to disconnect, to the cell's end; p95 of 20",
            figures,
            "200 ms, 500 ms",
            "",
        )


def paced(pieces: Sequence[str], rate: float, sent: list[float], first: str = "") -> Callable[..., None]:
    """A server that sends `first` at once and then each piece at its time."""

    def script(connection: socket.socket, _request: bytes, _number: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head() + event_stream(("start", {"session_id": "s"})))
        index = 0
        for place in range(0, len(first), 5000):
            connection.sendall(chunk(first[place : place + 5000], index))
            index += 1
        if first:
            time.sleep(8)  # time to paint what came at once
        began = time.monotonic()
        for number, piece in enumerate(pieces):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            sent.append(time.monotonic())
            connection.sendall(chunk(piece, index + number))
        connection.sendall(event_stream(("done", {})))

    return script


def ask(kernel: Kernel, script: Callable[..., None]) -> Cell:
    with ScriptedServer(script) as server, agent_of(kernel, server.url):
        return kernel.run("%%agent\nGo on.")


def published(cell: Cell, start: float = 0.0, end: float = float("inf")) -> int:
    return sum(size_of(m) for m, at in zip(cell.messages, cell.times, strict=True) if start <= at < end)


def bytes_rows() -> Iterator[Row]:
    """What is published for 100 KB at 10 KB/s, and for a trickle at two lengths."""
    text = mixed_markdown(100_000)
    pieces = [text[place : place + 200] for place in range(0, len(text), 200)]
    with kernel_of(VERSIONS[-1]) as kernel:
        ours = published(ask(kernel, paced(pieces, 50, []))) / len(text.encode())
        whole = kernel.run(
            "from IPython.display import Markdown, display, update_display\n"
            f"text = {text!r}\n"
            "display(Markdown(''), display_id='baseline')\n"
            "for end in range(200, len(text) + 1, 200):\n"
            "    update_display(Markdown(text[:end]), display_id='baseline')"
        )
        theirs = published(whole) / len(text.encode())
        yield (
            "bytes published / byte of answer, 100 KB as 500 events at 50/s",
            f"{ours:.1f}",
            "6",
            f"{theirs:.0f} (whole text at each event)",
        )
        for length in (0, 190_000):
            trickle = [f"word {number:05} and more "[:20] for number in range(200)]
            sent: list[float] = []
            cell = ask(kernel, paced(trickle, 20, sent, mixed_markdown(length)))
            mean = published(cell, sent[0], sent[-1]) / (sent[-1] - sent[0]) / 1000
            naive = 20 * (length + 2000) / 1000
            name = f"KB published a second, 20 events/s of 20 characters, at {length // 1000} KB"
            yield name, f"{mean:.0f}", "40", f"{naive:,.0f} (reckoned: whole text at each event)"


def latency_rows() -> Iterator[Row]:
    """An event's way from the server's socket to an IOPub message that shows it."""
    pieces = [f"w{number:04} lorem ipsum. " for number in range(200)]
    with kernel_of(VERSIONS[-1]) as kernel:
        firsts, later = [], []
        for _ in range(5):
            sent: list[float] = []
            cell = ask(kernel, paced(pieces, 20, sent))
            shown = [
                (at, message["content"]["data"]["text/markdown"])
                for message, at in zip(cell.messages, cell.times, strict=True)
                if message["msg_type"] == "update_display_data"
            ]
            arrivals = [
                next((at for at, text in shown if f"w{number:04}" in text), None) for number in range(len(pieces))
            ]
            ways = [at - start for at, start in zip(arrivals, sent, strict=True) if at is not None]
            firsts.append(ways[0])
            later += ways[1:]
    yield "first text: socket to IOPub message, median of 5", f"{statistics.median(firsts) * 1000:.0f} ms", "30 ms", ""
    yield "a later chunk, 20 events/s, median of 995", f"{statistics.median(later) * 1000:.0f} ms", "100 ms", ""


LOAD = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "agent_magic")
print(time.perf_counter() - began)
"""
START = "import time; began = time.perf_counter(); import IPython; from IPython.core.interactiveshell import InteractiveShell; InteractiveShell.instance(); print(time.perf_counter() - began)"


def load_rows() -> Iterator[Row]:
    """`%load_ext` beside the start of a bare IPython."""

    def seconds(code: str) -> float:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout)

    pairs = [(seconds(LOAD), seconds(START)) for _ in range(7)]
    load, start = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    yield "%load_ext, median of 7", f"{load:.0f} ms", "50 ms", f"{start:.0f} ms (IPython's own start)"


def compared(
    count: int, ours: Callable[[], object], theirs: Callable[[], object], pairs: int = 7
) -> tuple[float, float, float]:
    """`count` events by `ours` and by `theirs` in turn: the median ratio, and the median events a second of each."""

    def rate(run: Callable[[], object]) -> float:
        began = time.perf_counter()
        run()
        return count / (time.perf_counter() - began)

    rates = [(rate(ours), rate(theirs)) for _ in range(pairs)]
    columns = [statistics.median(column) for column in zip(*rates, strict=True)]
    return statistics.median(one / other for one, other in rates), columns[0], columns[1]


def throughput_rows() -> Iterator[Row]:
    """Events a second through the stream, a protocol and the fold, beside bare httpx-sse and json.loads."""
    count = 20_000
    stream = event_stream(
        ("start", {"session_id": "s"}),
        *(("chunk", {"content": f"word {n} ", "index": n}) for n in range(count)),
        ("done", {}),
    )

    async def bare(url: str) -> None:
        async with httpx.AsyncClient() as client, client.stream("POST", url) as response:
            async for event in EventSource(response).aiter_sse():
                json.loads(event.data)

    with ScriptedServer(says(stream)) as server:
        ratio, ours, theirs = compared(
            count, lambda: run_against(server.url, RunAgent()), lambda: asyncio.run(bare(server.url))
        )
    yield (
        "events/s through _stream and a protocol, median of 7 pairs",
        f"{ratio:.2f}x ({ours:,.0f})",
        "0.7x",
        f"{theirs:,.0f} (httpx-sse and json.loads)",
    )


def journaled(url: str, folder: str) -> Run:
    run = Run(RunAgent(), AgentRequest("Why?", url, "demo"), Policy(), "test", Taping(Path(folder)))
    run.start()
    return run


def journal_rows() -> Iterator[Row]:
    """An event's way from the server's socket to the tape's file, and what the tape costs the stream."""
    pieces = [f"w{number:04} lorem ipsum. " for number in range(100)]
    sent: list[float] = []
    ways: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ScriptedServer(paced(pieces, 20, sent)) as server:
        run = journaled(server.url, folder)
        while len(ways) < len(pieces) and not run.is_over:
            time.sleep(0.001)
            written = b"".join(tape.read_bytes() for tape in Path(folder).rglob("*") if tape.is_file())
            while len(ways) < len(pieces) and pieces[len(ways)].encode() in written:
                ways.append(time.monotonic() - sent[len(ways)])
        run.wait()
    figures = f"{statistics.median(ways) * 1000:.0f} ms, {max(ways) * 1000:.0f} ms"
    yield f"journal: socket to file, 20 events/s, median and longest of {len(ways)}", figures, "100 ms", ""

    count = 20_000
    chunks = (("chunk", {"content": f"word {n} ", "index": n}) for n in range(count))
    stream = event_stream(("start", {"session_id": "s"}), *chunks, ("done", {}))

    with tempfile.TemporaryDirectory() as folder, ScriptedServer(says(stream)) as server:
        ratio, ours, theirs = compared(
            count, lambda: journaled(server.url, folder).wait(), lambda: run_against(server.url, RunAgent())
        )
    yield (
        "events/s with the journal, median of 7 pairs",
        f"{ratio:.2f}x ({ours:,.0f})",
        "",
        f"{theirs:,.0f} (without it)",
    )


def main() -> None:
    """Print the table, row by row as it is measured."""
    groups = {
        "load": load_rows,
        "throughput": throughput_rows,
        "throng": throng_rows,
        "journal": journal_rows,
        "latency": latency_rows,
        "bytes": bytes_rows,
        "stop": stop_rows,
        "browser": browser_rows,
    }
    chosen = sys.argv[1:] or list(groups)
    print("| figure | measured | to reach | baseline in the same run |\n|---|---|---|---|")
    for name in chosen:
        for row in groups[name]():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
