"""Each property with as many examples as it is told: ``python -m tests.fuzz --examples 1000000``."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from time import monotonic

from tests.fuzz._properties import PROPERTIES


def main() -> None:
    """Print a line a property, and end with 1 where one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--examples", type=int, default=100_000, help="how many in all (default 100,000)")
    parser.add_argument("--only", default="", help="only properties whose names hold this")
    options = parser.parse_args()
    warnings.simplefilter("error")
    failed, tried, began = 0, 0, monotonic()
    for one in PROPERTIES:
        if options.only not in one.name:
            continue
        examples, start, outcome = one.share * options.examples // 100_000, monotonic(), "held"
        try:
            one.try_out(examples, derandomize=False)
        except Exception:  # noqa: BLE001 (whatever it is, it is what is looked for)
            traceback.print_exc()
            failed, outcome = failed + 1, "FAILED"
        tried += examples
        print(f"{one.name:50} {examples:>9,} examples {monotonic() - start:7.1f} s  {outcome}", flush=True)
    print(f"{'all':50} {tried:>9,} examples {monotonic() - began:7.1f} s  {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
