"""A small language for tests with a real kernel: cells in, outputs out, clicks as front ends send them."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

PATIENCE = 60.0


class Cell:
    """One execute request and all that came of it."""

    def __init__(self, message_id: str) -> None:
        self.id = message_id
        self.messages: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.reply: dict[str, Any] | None = None
        self.idle = False

    def contents(self, kind: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    @property
    def status(self) -> str:
        assert self.reply is not None
        return str(self.reply["content"]["status"])

    @property
    def error(self) -> dict[str, Any]:
        (error,) = self.contents("error")
        return error

    @property
    def printed(self) -> str:
        return "".join(content["text"] for content in self.contents("stream"))

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs as a saved notebook holds them: displays by id, clear_output obeyed."""
        outputs: list[dict[str, Any]] = []
        clear = False
        for message in self.messages:
            content = message["content"]
            match message["msg_type"]:
                case "clear_output":
                    clear = content["wait"]
                    if not clear:
                        outputs = []
                case "display_data" | "execute_result" | "stream" | "error":
                    if clear:
                        outputs, clear = [], False
                    outputs.append({**content, "output_type": message["msg_type"]})
                case "update_display_data":
                    name = content["transient"]["display_id"]
                    for output in outputs:
                        if output.get("transient", {}).get("display_id") == name:
                            output["data"] = content["data"]
                case _:
                    pass
        return outputs

    @property
    def button(self) -> str | None:
        """The comm of the Stop button, if one was made."""
        for content in self.contents("comm_open"):
            if content["data"].get("state", {}).get("_model_name") == "ButtonModel":
                return str(content["comm_id"])
        return None

    @property
    def painted(self) -> str:
        """All Markdown that was on the page at any time, joined."""
        shown = [*self.contents("update_display_data"), *self.contents("display_data")]
        return "\n".join(content["data"].get("text/markdown", "") for content in shown)


class Kernel:
    """A running kernel."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client
        self.cells: dict[str, Cell] = {}
        self.strays: list[dict[str, Any]] = []
        self.subshell_id: str | None = None

    def send(self, code: str, *, headless: bool = False, cell_id: str = "cell-1") -> Cell:
        """Queue a cell, as a notebook does (or as nbclient does), and return at once."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": not headless,
            "stop_on_error": True,
        }
        message = self.client.session.msg("execute_request", content)
        message["metadata"] = {} if headless else {"cellId": cell_id}
        self.client.shell_channel.send(message)
        cell = self.cells[message["header"]["msg_id"]] = Cell(message["header"]["msg_id"])
        return cell

    def run(self, code: str, *, headless: bool = False) -> Cell:
        """Run a cell to its end.

        A kernel aborts what comes within a moment of a failure; a person's next click comes later.
        """
        while True:
            cell = self.send(code, headless=headless)
            self.wait_for(cell)
            if cell.status != "aborted":
                return cell

    def wait_for(self, *cells: Cell) -> None:
        """Read until each of `cells` has its reply and is idle."""
        self.read_until(lambda: all(cell.reply is not None and cell.idle for cell in cells))

    def read_until(self, reached: Callable[[], object]) -> None:
        """Read messages until `reached` is true."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > deadline:
                said = [(message["msg_type"], message["content"]) for message in self.strays[-5:]]
                raise TimeoutError(f"not reached; cells: {self._states()}; strays: {said}")
            self._read_iopub()
            self._read_shell()

    def prompt(self) -> dict[str, Any]:
        """The question that a cell asks the person."""
        asked: list[dict[str, Any]] = []

        def reached() -> bool:
            with suppress(queue.Empty):
                asked.append(self.client.stdin_channel.get_msg(timeout=0)["content"])
            return bool(asked)

        self.read_until(reached)
        return asked[0]

    def click(self, comm: str, *, subshell: bool = False) -> None:
        """A click on a button, on the main shell channel or on a subshell."""
        self.send_comm(comm, {"method": "custom", "content": {"event": "click"}}, subshell=subshell)

    def send_comm(self, comm: str, data: dict[str, Any], *, subshell: bool = False) -> None:
        """A widget's message from the page."""
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        if subshell:
            message["header"]["subshell_id"] = self._subshell()
        self.client.shell_channel.send(message)

    def interrupt(self) -> None:
        """The toolbar's ■."""
        self.manager.interrupt_kernel()

    def evaluate(self, expression: str) -> str:
        """What the kernel prints for an expression."""
        return self.run(f"print(({expression}))").printed.rstrip("\n")

    def _subshell(self) -> str:
        if self.subshell_id is None:
            message = self.client.session.msg("create_subshell_request", {})
            self.client.control_channel.send(message)
            reply = self.client.control_channel.get_msg(timeout=PATIENCE)
            self.subshell_id = reply["content"]["subshell_id"]
        return str(self.subshell_id)

    def _read_iopub(self) -> None:
        try:
            message = self.client.iopub_channel.get_msg(timeout=0.02)
        except queue.Empty:
            return
        while True:
            self._file(message)
            try:
                message = self.client.iopub_channel.get_msg(timeout=0)
            except queue.Empty:
                return

    def _file(self, message: dict[str, Any]) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        if cell is None:
            self.strays.append(message)
            return
        cell.messages.append(message)
        cell.times.append(time.monotonic())
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            cell.idle = True

    def _read_shell(self) -> None:
        while True:
            try:
                message = self.client.shell_channel.get_msg(timeout=0)
            except queue.Empty:
                return
            cell = self.cells.get(message["parent_header"].get("msg_id", ""))
            if cell is not None:
                cell.reply = message

    def _states(self) -> list[Any]:
        return [
            (cell.reply and cell.reply["content"]["status"], cell.idle, [m["msg_type"] for m in cell.messages][-6:])
            for cell in self.cells.values()
        ]


@contextmanager
def running_kernel(python: Path, folder: Path, **environment: str) -> Iterator[Kernel]:
    """A kernel of the interpreter `python`, working in `folder`."""
    manager = KernelManager()
    spec = KernelSpec(
        argv=[str(python), "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        language="python",
        display_name="test",
    )
    manager._kernel_spec = spec
    quiet = {
        "AGENT_MAGIC_DEFAULT": "demo",
        "PYTHONWARNINGS": "error::ResourceWarning:agent_magic",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    manager.start_kernel(cwd=str(folder), env={**os.environ, **quiet, **environment})
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        if manager.has_kernel:
            os.kill(manager.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]
