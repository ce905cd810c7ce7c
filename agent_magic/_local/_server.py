"""The program of a local model's process: llama.cpp's own server, on loopback, until its stdin ends.

It imports nothing of agent_magic. The first line of stdin is a JSON object: `settings`, the attributes of llama.cpp's
parameters; `threads`; `model`, the file; the `name` that replies give it, for a path is nobody else's to know; and
a `word`. Its stdout says in one line that begins with that word on which port it serves, or why it does not: what
llama.cpp prints there too may be what a model's file says, and no file knows the word.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from urllib.parse import urlsplit

SERVES, FAILED = "serves", "failed"
FAILURE = 3


def main() -> int:
    """Serve, and end with whoever holds the other end of stdin, however that one ends."""
    asked = json.loads(sys.stdin.buffer.readline())
    _end_with_stdin()
    try:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = asked["model"]
        parameters.model_alias = {asked["name"]}
        parameters.cpuparams.n_threads = asked["threads"]
        for name, value in asked["settings"].items():
            setattr(parameters, name, value)
        server = xllamacpp.Server(parameters)
    except Exception as error:  # noqa: BLE001 (whatever it is, the process that asks is to say it)
        print(f"\n{asked['word']} {FAILED} {' '.join(str(error).split())}", flush=True)  # noqa: T201
        return FAILURE
    print(f"\n{asked['word']} {SERVES} {urlsplit(server.listening_address).port}", flush=True)  # noqa: T201
    sys.stdin.buffer.read()
    return 0


def _end_with_stdin() -> None:
    """Have the system end this process when its stdin does, where there is a signal for that.

    llama.cpp keeps the interpreter's lock while it loads and while it reads a prompt, and this program would hear of
    it only then. What SIGIO does by itself is to end a process.
    """
    try:
        from fcntl import F_GETFL, F_SETFL, F_SETOWN, fcntl
    except ImportError:  # Windows
        return
    with suppress(OSError, AttributeError):
        fcntl(sys.stdin, F_SETOWN, os.getpid())
        fcntl(sys.stdin, F_SETFL, fcntl(sys.stdin, F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    code = main()
    # Not sys.exit: the server's threads are llama.cpp's own, and nobody is there any more who waits for an answer.
    os._exit(code)
