"""The embedded agent speaks the services' own language, to their own clients too."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_magic._agent import Agent
from agent_magic.demo import DemoServer
from agent_magic.testing import split_events

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", params=["\n", "\r\n"], ids=["LF", "CRLF"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = DemoServer(delay_ms=0, newline=request.param)
    yield server.start()
    server.stop()


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    return [(one.event, json.loads(one.data)) for one in split_events(response.content)]


def test_runagent_stream(url: str) -> None:
    """The seed's events in their order, with session, index, usage and time."""
    seen = events(httpx.post(f"{url}/v1/agents/agent-123/stream", json={"query": "Why?"}))
    assert [name for name, _ in seen] == ["start", *["chunk"] * (len(seen) - 2), "done"]
    assert [data["index"] for _, data in seen[1:-1]] == list(range(len(seen) - 2))
    assert seen[0][1]["session_id"]
    assert seen[-1][1]["usage"]["total_tokens"] > 0
    assert seen[-1][1]["execution_time"] >= 0


def test_resume_and_memory(url: str) -> None:
    """A session can be resumed from an index, and remembers what was asked before."""
    stream = f"{url}/v1/agents/demo/stream"
    first = events(httpx.post(stream, json={"query": "Why?", "parameters": {"chunk_size": 10}}))
    session = first[0][1]["session_id"]
    again = {"query": "Why?", "session_id": session, "parameters": {"chunk_size": 10, "resume_from_index": 5}}
    assert events(httpx.post(stream, json=again))[1:-1] == first[6:-1]
    assert all(len(data["content"]) == 10 for _, data in first[1:-2])
    second = events(httpx.post(stream, json={"query": "And now?", "session_id": session}))
    assert "Before this you asked me: *Why?*" in "".join(data["content"] for _, data in second[1:-1])


def test_resume_of_nothing(url: str) -> None:
    """A session that the server does not know cannot be resumed."""
    body = {"query": "Why?", "session_id": "gone", "parameters": {"resume_from_index": 5}}
    assert httpx.post(f"{url}/v1/agents/demo/stream", json=body).status_code == 404


def test_you_stream(url: str) -> None:
    """The page's events in their order, numbered, with sources before the text."""
    response = httpx.post(
        f"{url}/v1/agents/runs", json={"agent": "advanced", "input": "Why is rain wet?", "stream": True}
    )
    seen = events(response)
    assert [data["seq_id"] for _, data in seen] == list(range(len(seen)))
    assert [one.id for one in split_events(response.content)] == [str(number) for number in range(len(seen))]
    assert all(data["type"] == name for name, data in seen)
    names = [name for name, _ in seen]
    assert names[:4] == [
        "response.created", "response.starting", "response.output_item.added", "response.output_content.full",
    ]  # fmt: skip
    assert names[-1] == "response.done"
    assert seen[-1][1]["response"]["finished"] is True


def test_replies_that_are_not_streamed(url: str) -> None:
    """/invoke, and a You.com run without `stream`."""
    invoked = httpx.post(f"{url}/v1/agents/demo/invoke", json={"query": "Why?"}).json()
    run = httpx.post(f"{url}/v1/agents/runs", json={"agent": "express", "input": "Why?"}).json()
    assert invoked["result"] == run["output"][1]["text"]
    assert run["output"][0]["content"][0]["source_type"] == "web_search"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/agents/nobody/stream", {"query": "Why?"}, 404),
        ("/v1/agents/demo/stream", {}, 422),
        ("/v1/agents/demo/stream", {"query": "Why?", "parameters": {"chunk_size": 0}}, 422),
        ("/v1/agents/demo/stream", {"query": "Why?", "parameters": []}, 422),
        ("/v1/agents/demo/stream", {"query": "Why?", "parameters": {"fail": 429}}, 429),
        ("/v1/agents/demo/stream", [], 400),
        ("/v1/agents/runs", {"agent": "nobody", "input": "Why?"}, 404),
        ("/v1/agents/runs", {"agent": "express"}, 422),
        ("/v1/agents/runs", {"agent": "express", "input": "Why?", "fail": 503}, 503),
    ],
)
def test_documented_errors(url: str, path: str, body: Any, status: int) -> None:
    """Errors have their status and a JSON body in the documented shape."""
    response = httpx.post(url + path, json=body)
    assert response.status_code == status
    assert {"detail", "error"} & set(response.json())
    assert ("retry-after" in response.headers) == (status in {429, 503})


@pytest.mark.parametrize("path", ["/v1/agents/demo/stream", "/v1/agents/demo/invoke", "/v1/agents/runs"])
def test_the_key_is_checked(path: str) -> None:
    """Started with a key, the server wants it in either header."""
    server = DemoServer(key="right", delay_ms=0)
    url = server.start() + path
    body = {"query": "Why?", "input": "Why?", "agent": "express"}
    good = [{"Authorization": "Bearer right"}, {"X-API-Key": "right"}]
    bad: list[dict[str, str]] = [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}]
    try:
        assert [httpx.post(url, json=body, headers=headers).status_code for headers in good] == [200, 200]
        assert [httpx.post(url, json=body, headers=headers).status_code for headers in bad] == [401, 401, 401]
    finally:
        server.stop()


def test_the_same_for_the_same_prompt(url: str) -> None:
    """The answer is a function of the question, on both wires and in any chunks."""
    asked = [
        Agent(protocol="runagent", base_url=url, key_env="").ask("Why?", chunk_size=size).text for size in (1, 7, 1000)
    ]
    asked.append(Agent(protocol="you", agent="express", base_url=url, key_env="").ask("Why?").text)
    assert len(set(asked)) == 1


def test_a_cut_is_resumed(url: str) -> None:
    """A cut that a request asks for is resumed by RunAgent's wire, and said by You.com's."""
    whole = Agent(protocol="runagent", base_url=url, key_env="", backoff=0)
    assert whole.ask("Why?", fail="cut").text == whole.ask("Why?").text
    result, _ = Agent(protocol="you", agent="express", base_url=url, key_env="").begin("Why?", {"fail": "cut"})
    assert result.wait(20).status == "failed"
    assert result.text


SDK = """
import json, sys
from youdotcom import You
from youdotcom.models import ExpressAgentRunsRequest, AdvancedAgentRunsRequest, WebSearchTool
url = sys.argv[1]
with You(api_key_auth="right", server_url=url) as you:
    whole = you.agents.runs.create(request=ExpressAgentRunsRequest(input="Why is rain wet?", stream=False), server_url=url)
    stream = you.agents.runs.create(request=AdvancedAgentRunsRequest(input="Why is rain wet?", stream=True), server_url=url)
    with stream as events:
        seen = [(event.data.TYPE if hasattr(event.data, "TYPE") else event.data.type, event) for event in events]
    text = "".join(event.data.response.delta for kind, event in seen if kind == "response.output_text.delta")
    answers = [item.text for item in whole.output if item.type == "message.answer"]
    print(json.dumps({"same": answers == [text], "last": seen[-1][0], "sources": [k for k, _ in seen].count("response.output_content.full")}))
"""


def test_the_services_own_client(url: str) -> None:
    """You.com's own SDK is content with the embedded agent, streamed and not."""
    folder = ROOT / ".cache" / "youdotcom-2.5.0"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "youdotcom==2.5.0"], check=True, stdout=sys.stderr)
        (folder / "complete").touch()
    done = subprocess.run([python, "-c", SDK, url], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"same": True, "last": "response.done", "sources": 1}


def test_alone() -> None:
    """`python -m agent_magic.demo` serves until it is interrupted."""
    command = [
        sys.executable,
        "-m",
        "agent_magic.demo",
        "--port",
        "0",
        "--key",
        "k",
        "--newline",
        "crlf",
        "--delay-ms",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        url = server.stdout.readline().split()[-1]
        reply = httpx.post(f"{url}/v1/agents/demo/stream", json={"query": "Why?"}, headers={"X-API-Key": "k"})
        assert b"\r\n\r\n" in reply.content
        server.send_signal(2)
        assert server.wait(20) == 0
        assert server.stderr.read() == ""
