"""The embedded agent's server: uvicorn in a thread, on a loopback port that is open before it runs."""

from __future__ import annotations

import logging
import socket
from threading import Thread

import uvicorn

from agent_magic.demo._app import make_app
from agent_magic.demo._model import Models

__all__ = ["DemoServer"]


THREAD = "agent_magic demo"


def _is_not_from_here(record: logging.LogRecord) -> bool:
    return record.threadName != THREAD


class DemoServer:
    """The embedded agent. `newline` ends a line of the stream, `delay_ms` is the pause before a piece.

    `models`: it is a model that answers.
    """

    def __init__(
        self,
        port: int = 0,
        key: str | None = None,
        newline: str = "\n",
        delay_ms: float = 15.0,
        models: Models | None = None,
    ) -> None:
        self._port = port
        app = make_app(key, newline, delay_ms, models)
        # A cut that a request asked for, and a client that left, are no news to the person at the notebook;
        # what another server in this process has to say is left alone.
        logging.getLogger("uvicorn.error").addFilter(_is_not_from_here)
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread: Thread | None = None

    def start(self) -> str:
        """Serve in a thread; returns the base URL. Requests are accepted at once."""
        listening = self._listen()
        self._thread = Thread(target=self._server.run, args=([listening],), name=THREAD, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    def run(self) -> None:
        """Serve in this thread until it is interrupted."""
        listening = self._listen()
        print(f"The embedded agent listens on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201
        self._server.run([listening])

    def stop(self) -> None:
        """End the thread that `start` began."""
        self._server.should_exit = True
        self._server.force_exit = True
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self._port), backlog=2048)
