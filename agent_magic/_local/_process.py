"""The process that a local model is served from: begun at the first question, shared, ended with this one.

- There is one process for a file, whoever asks. Where it has died, the next question begins another.
- It answers one question at a time, and the others stand in line here: there they would share one context, and a long
  prompt would cost another its answer; and one that waits there hears nothing, not even that it waits.
- It loads while a run waits, so a bar says so and a Stop ends the waiting; the loading goes on for whoever asks next.
- It ends when its stdin does. The system closes that pipe in whatever way this process ends, on every system, also
  when it is killed. It is in a session of its own: an interrupt of this process is none of its.
- It is given no environment but what finds and runs a library: a key of the person's is none of its business.
- Its own key is made here and sent by the pipe, so that no other user of the machine has the model answer.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import signal
import subprocess
import sys
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from threading import Lock, Thread
from typing import Any

from anyio import to_thread

from agent_magic._keys import Secret
from agent_magic._local._parts import model_file, model_name
from agent_magic._local._server import FAILED, SERVES
from agent_magic.errors import AgentMagicError, ConfigError, StreamLost, visible

__all__ = ["LocalModel", "Served", "local_model", "running"]

# llama.cpp's own defaults but for these. An answer that names no limit ends somewhere; what was once asked is not kept
# in gigabytes of memory. `verbosity` 1 is errors alone.
SETTINGS: dict[str, Any] = {
    "n_ctx": 8192,
    "n_parallel": 1,
    "n_predict": 2048,
    "cache_ram_mib": 0,
    "fit_params": False,
    "ui": False,
    "verbosity": 1,
    "port": 0,
}
NAMES = frozenset(
    {"APPDATA", "HOME", "LANG", "PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "SYSTEMROOT", "TEMP", "TMP",
     "TMPDIR", "VIRTUAL_ENV", "WINDIR"}
)  # fmt: skip
BEGINNINGS = ("LC_", "LD_", "DYLD_", "OMP_", "GGML_", "CUDA_", "HIP_", "ROCR_")
# What llama.cpp says of a file that it cannot load.
REASON = re.compile(r"error loading model: (?:llama_model_loader: )?(.+)")
# And of what ends it.
CRASH = re.compile(r"assert|abort|terminate|what\(\)|alloc|memory|error:", re.IGNORECASE)
LINES = 40
# Between the end of a connection and that of its process, which closed it.
FATE_SECONDS = 2.0
END_SECONDS = 5.0


class Served:
    """One process. `began` is where it serves, or None where it ended before; `ended` says how, when it has."""

    def __init__(self, model: Path, key: Secret) -> None:
        self._model = model
        self.began: Future[str | None] = Future()
        self.ended: Future[str] = Future()
        self._said: deque[str] = deque(maxlen=LINES)
        self._failed: str | None = None
        self._word = token_urlsafe(24)
        self.process = _popen()
        self._watcher = Thread(target=self._watch, name="agent_magic local", daemon=True)
        self._watcher.start()
        asked = {
            "model": str(model),
            "name": model_name(str(model)),
            "threads": _threads(),
            "settings": {**SETTINGS, "api_keys": [key.reveal()]},
            "word": self._word,
        }
        stdin = self.process.stdin
        with suppress(OSError):  # it has ended already, which is said where it is waited for
            assert stdin is not None  # noqa: S101
            stdin.write(json.dumps(asked).encode() + b"\n")

    @property
    def url(self) -> str | None:
        """Where it serves, as far as is known now."""
        return self.began.result() if self.began.done() and not self.ended.done() else None

    def refusal(self) -> AgentMagicError:
        """Why it does not serve, once it has ended."""
        how = self.ended.result()
        reasons = [found[1] for line in self._said if (found := REASON.search(line))]
        if reasons or self._failed:
            said = visible(reasons[-1] if reasons else self._failed or "").rstrip(".")
            return ConfigError(f"llama.cpp cannot load {self._model}: {said[:300]}.")
        return StreamLost(f"The local model's process ended while it loaded {self._model.name} ({how}).")

    async def fate(self) -> StreamLost | None:
        """After a connection broke: the error where that was because the process has ended."""
        try:
            how = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self.ended)), FATE_SECONDS)
        except TimeoutError:
            return None
        place = (self.began.result() or "").rpartition("/")[2]
        return StreamLost(
            f"The local model's process at {place} ended ({how}); what had arrived is kept, and the next question "
            "starts it anew."
        )

    def end(self) -> None:
        """End it, and wait until it has."""
        self.process.terminate()
        self._watcher.join(END_SECONDS)
        if self._watcher.is_alive():
            self.process.kill()
            self._watcher.join()

    def leave(self) -> None:
        """In a forked child: let go of the pipes, so that it is the parent alone whom the process ends with."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(OSError):
                    pipe.close()

    def _watch(self) -> None:
        """Hear what it says, to its end. Its pipes are closed here, once nobody is behind them."""
        with self.process as process:
            assert process.stdout is not None  # noqa: S101
            for line in process.stdout:
                self._hear(line.decode("utf-8", "replace").strip())
        self.ended.set_result(self._how(process.returncode))
        if not self.began.done():
            self.began.set_result(None)

    def _hear(self, line: str) -> None:
        word, _, said = line.partition(" ")
        if word != self._word:
            self._said.extend([line] if line else [])
        elif (found := re.fullmatch(f"{SERVES} ([0-9]+)", said)) and not self.began.done():
            self.began.set_result(f"http://127.0.0.1:{found[1]}")
        elif said.startswith(FAILED):
            self._failed = said.removeprefix(FAILED).strip()

    def _how(self, code: int) -> str:
        if code >= 0:
            words = f"exit code {code}"
        else:
            name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
            words = f"killed by {name}"
            if name == "SIGILL":
                words += ": this processor lacks what the wheel of xllamacpp was built for"
        said = [line for line in self._said if CRASH.search(line)]
        return f"{words}: {visible(said[-1][:200]).rstrip('.')}" if said else words


class LocalModel:
    """A model in a file, and the process that serves it, if there is one. Who asks it holds its `turn`."""

    def __init__(self, path: Path) -> None:
        self.turn = asyncio.Lock()
        self.path = path
        self.key = Secret(token_urlsafe(24))
        self._lock = Lock()
        self._served: Served | None = None

    @property
    def served(self) -> Served | None:
        """The process, where there is one that has not ended."""
        found = self._served
        return None if found is None or found.ended.done() else found

    @property
    def url(self) -> str | None:
        """Where it is served now."""
        found = self.served
        return None if found is None else found.url

    async def serve(self) -> Served:
        """The process, begun where there is none; it may still be loading. Raises `StreamLost`."""
        found = self.served
        return await to_thread.run_sync(self._begun) if found is None else found

    async def ready(self, served: Served) -> str:
        """Where `served` serves, as soon as it has loaded. Raises `ConfigError` or `StreamLost` where it cannot."""
        # Shielded: who stops waiting must not end what the others wait for.
        url = await asyncio.shield(asyncio.wrap_future(served.began))
        if url is None:
            raise served.refusal()
        return url

    def end(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            found, self._served = self._served, None
        if found is not None:
            found.end()

    def leave(self) -> None:
        """In a forked child: the process is the parent's."""
        if self._served is not None:
            self._served.leave()

    def _begun(self) -> Served:
        with self._lock:
            if (found := self.served) is not None:
                return found
            try:
                begun = self._served = Served(self.path, self.key)
            except (OSError, RuntimeError) as error:  # no more files, processes or threads
                raise StreamLost(f"The local model's process cannot be started ({error}).") from None
            return begun


_LOCK = Lock()
_MODELS: dict[Path, LocalModel] = {}
_OF_PARENT: list[LocalModel] = []


def local_model(gguf: str) -> LocalModel:
    """The model that the setting `gguf` names, which all who ask it share. Raises `ConfigError`."""
    path = model_file(gguf)
    with _LOCK:
        return _MODELS.setdefault(path, LocalModel(path))


def running() -> list[tuple[Path, int]]:
    """The models that are served now, each with its process."""
    return [(model.path, served.process.pid) for model in _MODELS.values() if (served := model.served)]


def _popen() -> subprocess.Popen[bytes]:
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(  # noqa: S603 (this interpreter, a program of our own)
        # -P: what lies in the working folder is not imported.
        [sys.executable, "-P", str(Path(__file__).with_name("_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env=_environment(),
        **own_group,
    )


def _threads() -> int:
    """Half of the processors.

    llama.cpp's threads wait for one another without sleeping: where one of them has to share its processor, all
    crawl (two on two processors, one of them busy: 8 tokens a second; one alone: 60).
    """
    is_known = hasattr(os, "sched_getaffinity")
    return max(1, (len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1) // 2)


def _environment() -> dict[str, str]:
    """What finds and runs a library. llama.cpp's crashes are told by the system, not by a debugger that it starts."""
    kept = {name: value for name, value in os.environ.items() if name.upper() in NAMES or name.startswith(BEGINNINGS)}
    if places := kept.pop("PYTHONPATH", ""):
        # One that is relative, or empty, would be the working folder, which may be anybody's.
        kept["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, places.split(os.pathsep)))
    return {**kept, "PYTHONUNBUFFERED": "1", "GGML_NO_BACKTRACE": "1"}


def _end_all() -> None:
    for model in tuple(_MODELS.values()):
        model.end()


def _forget_parent() -> None:
    """In a forked child: the processes are the parent's. The objects are kept, as nobody here can wait for them."""
    global _LOCK  # noqa: PLW0603
    _LOCK = Lock()
    _OF_PARENT.extend(_MODELS.values())
    _MODELS.clear()
    for model in _OF_PARENT:
        model.leave()


# At import, and so before the readers' thread is made: at exit the runs end first, and none says that it failed.
atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
