"""RunAgent's own server: `runagent serve` from PyPI, in a venv of its own that is made at first use and kept in .cache.

It pins httpx and fastapi, so it cannot live beside us. It has a home of its own too, and reaches no network: what it
would ask goes to a proxy that tells.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

VERSION = "0.1.49"
ROOT = Path(__file__).parents[2]
AGENT_ID = "3d0e1f57-6c3f-4a52-8a57-0d9a4b1f7c11"
PATIENCE_SECONDS = 60

AGENT = """
import asyncio
import socket


async def words(prompt, times=3):
    yield f"You asked: {prompt}"
    for number in range(times):
        yield f" {number}"
    yield " \\N{DNA DOUBLE HELIX} “done”\\n"


def plain(prompt):
    yield "one "
    yield "two"


async def values(message):
    yield {"content": message, "sender": "assistant"}
    yield None
    yield [1, {"a": "b"}]
    yield 0.5


async def breaks(prompt):
    yield "half an ans"
    raise ValueError("the model is gone")


async def endless(prompt, port):
    try:
        yield "a"
        while True:
            await asyncio.sleep(0.01)
            yield "b"
    finally:
        with socket.create_connection(("127.0.0.1", port)) as left:
            left.sendall(b"left")
"""

ENTRYPOINTS = {"minimal_stream": "words", "plain_stream": "plain", "values_stream": "values", "breaks_stream": "breaks", "endless_stream": "endless"}  # fmt: skip

CONFIG = {
    "agent_id": AGENT_ID,
    "agent_name": "Test",
    "description": "An agent that tests",
    "framework": "default",
    "template": "default",
    "version": "1.0.0",
    "created_at": "2026-11-21T00:00:00",
    "template_source": {"repo_url": "-", "author": "-", "path": "-"},
    "agent_architecture": {
        "entrypoints": [{"file": "agent.py", "module": name, "tag": tag} for tag, name in ENTRYPOINTS.items()]
    },
}


@cache
def runagent_command() -> Path:
    """The command `runagent`."""
    folder = ROOT / ".cache" / f"runagent-{VERSION}"
    done = folder / "complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip: list[str | Path] = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, f"runagent=={VERSION}"], check=True, stdout=sys.stderr)
        done.touch()
    return folder / "bin" / "runagent"


@contextmanager
def running_runagent(folder: Path, proxy: str) -> Iterator[str]:
    """The URL of a server that serves `AGENT` out of `folder`."""
    command = runagent_command()
    home, agent = folder / "home", folder / "agent"
    for path in (home, agent):
        path.mkdir()
    (agent / "agent.py").write_text(AGENT)
    (agent / "runagent.config.json").write_text(json.dumps(CONFIG))
    environment = {
        "HOME": str(home),
        "RUNAGENT_CACHE_DIR": str(home / ".runagent"),
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy),
    }
    log = folder / "log"
    with log.open("wb") as out:
        how = {"env": environment, "cwd": folder, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        subprocess.run([command, "config", "--register-agent", agent], check=True, **how)  # type: ignore[call-overload]
        port = _free_port()
        serve = [command, "serve", "--no-animation", "--port", str(port), agent]
        server: subprocess.Popen[bytes] = subprocess.Popen(serve, **how)  # type: ignore[call-overload]
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(f"{url}/api/v1/agents/{AGENT_ID}/architecture", server, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:  # it waits for clients that are still there
                server.kill()
                server.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with opener.open(url, timeout=5):
                return
        except URLError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"runagent serve did not come up:\n{log.read_text(errors='replace')}") from None
        time.sleep(0.05)
