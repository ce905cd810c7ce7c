"""A thousand streams at once: through one process's `_stream` and by bare httpx, on the same server.

The server is a process of its own (``python -m tests.benchmarks._throng``) and sends each event by itself,
in turn to all who listen, as an agent would. Bare httpx gets what suits it best: one client, no limits.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from httpx_sse import EventSource

from agent_magic._policy import Policy
from agent_magic.protocols.runagent import RunAgent
from agent_magic.testing import begin_against, event_stream, head

STREAMS = 1000
EVENTS = 100
PAIRS = 5
# A stream is a descriptor on either side, and the rest of the process has some too.
DESCRIPTORS = 2 * STREAMS + 200
PATIENT = Policy(timeout=120, retries=0)


async def _serve() -> None:
    pieces = [
        head() + event_stream(("start", {"session_id": "s"})),
        *(event_stream(("chunk", {"content": f"word {n} ", "index": n})) for n in range(EVENTS)),
        event_stream(("done", {})),
    ]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The body too: to close what holds unread bytes would reset it.
        while not (await reader.read(65536)).rstrip().endswith(b"}"):
            pass
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2 * STREAMS)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def _serving() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def _raise_limit() -> None:
    """Ask for the descriptors that this takes: the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ours(url: str) -> float:
    began = time.perf_counter()
    runs = [begin_against(url, RunAgent(), PATIENT) for _ in range(STREAMS)]
    for run in runs:
        assert run.wait(120)
    seconds = time.perf_counter() - began
    assert all((run.transcript.status, run.transcript.text.count("word")) == ("done", EVENTS) for run in runs)
    return STREAMS * EVENTS / seconds


async def _bare(url: str) -> None:
    endpoint, limits = f"{url}/v1/agents/demo/stream", httpx.Limits(max_connections=None, max_keepalive_connections=0)

    async def read(client: httpx.AsyncClient) -> int:
        count = 0
        async with client.stream("POST", endpoint, json={"query": "Why?"}) as response:
            async for event in EventSource(response).aiter_sse():
                count += "content" in json.loads(event.data)
        return count

    async with httpx.AsyncClient(limits=limits, timeout=120) as client:
        assert await asyncio.gather(*(read(client) for _ in range(STREAMS))) == [EVENTS] * STREAMS


def _theirs(url: str) -> float:
    began = time.perf_counter()
    asyncio.run(_bare(url))
    return STREAMS * EVENTS / (time.perf_counter() - began)


def throng_rows() -> Iterator[tuple[str, str, str, str]]:
    """Events a second from 1,000 streams at once, beside bare httpx."""
    _raise_limit()
    with _serving() as url:
        pairs = [(_ours(url), _theirs(url)) for _ in range(PAIRS)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield (
        f"events/s of {STREAMS:,} streams at once in one process, median of {PAIRS} pairs",
        f"{ratio:.2f}x ({ours:,.0f})",
        "0.8x",
        f"{theirs:,.0f} (httpx, httpx-sse and json.loads)",
    )


if __name__ == "__main__":
    asyncio.run(_serve())
