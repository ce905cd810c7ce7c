"""``python -m agent_magic.demo --port 8123``: the embedded agent alone, for curl and for other clients."""

from __future__ import annotations

import argparse

from agent_magic.demo._server import DemoServer


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m agent_magic.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8123, help="the port on 127.0.0.1 (0: a free one)")
    parser.add_argument("--key", help="the key that every request must carry")
    parser.add_argument("--newline", choices=["lf", "crlf"], default="lf", help="how lines of the stream end")
    parser.add_argument("--delay-ms", type=float, default=15.0, help="the pause before each piece")
    options = parser.parse_args()
    newline = {"lf": "\n", "crlf": "\r\n"}[options.newline]
    try:
        DemoServer(options.port, options.key, newline, options.delay_ms).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
