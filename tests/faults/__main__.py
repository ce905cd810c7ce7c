"""How many of each family of faults were tried, and what came of them, as a table: ``python -m tests.faults``.

Here the connection is cut at each byte in both ways before each kind of server; the tests try each byte in
both ways, and the servers in turn.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic

from tests.faults import test_cuts, test_encodings, test_floods, test_garbage, test_network, test_refusals, test_silence
from tests.faults._cases import Case, play

COLUMNS = ("done", "said", "failed", "wrong")
SERVERS = {
    "exactly": "resumes exactly",
    "repeats": "repeats chunks",
    "ignores": "ignores the resume",
    "skips": "skips chunks",
    "forgot": "has forgotten the session",
}

TASKS = {
    "exactly": "resumes exactly",
    "repeats": "repeats events",
    "ignores": "begins its stream again",
    "skips": "skips events",
    "forgot": "has forgotten the task",
}


def families() -> Iterator[tuple[str, Iterable[Case]]]:
    """Each family but the cuts, by its name."""
    authority = test_network.COMPANY.write_ca(Path(tempfile.mkdtemp()) / "ca.pem")
    yield "silence, slowness, comments for ever", test_silence.cases()
    yield (
        "statuses, Retry-After, redirects, a 200 that is none",
        [*test_refusals.cases(), *test_refusals.redirections()],
    )
    yield "gzip, br, zstd: cut, damaged, nested, unknown, bombs", test_encodings.cases()
    yield "an event, a line, a text, a number of events without end", test_floods.cases()
    yield "fields of each wrong type, or missing", test_garbage.fields()
    yield "places of chunks and items that repeat, jump, fall", test_garbage.indices()
    yield "two ends, no end, words after the end", test_garbage.endings()
    yield (
        "bytes that are no text, JSON that is none, numbers",
        [*test_garbage.bytes_and_json(), *test_garbage.numbers()],
    )
    trusted = (case for service in test_network.SERVICES for case in test_network.trusted(service, authority))
    yield "names, addresses, certificates, torn TLS", [*test_network.cases(), *trusted]


def rows() -> Iterator[tuple[str, Counter[str]]]:
    """Each row of the table; what is wrong goes to the standard error."""
    outcomes, wrong = test_cuts.try_all(everything=True)
    where = "cut at each byte"
    for (wire, resume), counted in outcomes.items():
        if wire == "you" and resume != "exactly":  # behind it this wire never asks again
            where = "cut at each byte up to the first event's end"
        yield f"{wire}, {where}; the server {(TASKS if wire == 'you-research' else SERVERS)[resume]}", counted
    for name, cases in families():
        counted = Counter()
        for outcome in play(cases, at_once=12):
            counted[outcome.kind] += 1
            wrong += [f"{outcome.case.name}: {said}" for said in outcome.complaints]
        yield name, counted
    print(*wrong, sep="\n", file=sys.stderr)


def main() -> None:
    """Print the table, and end with 1 where anything is wrong."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    began, total = monotonic(), Counter[str]()
    print("| fault | tried | whole | whole but for what is said | failed in a sentence, partial kept | wrong |")
    print("|---|---|---|---|---|---|")
    for name, counted in rows():
        total += counted
        print(_row(name, counted), flush=True)
    print(_row("all", total))
    print(f"\nIn {monotonic() - began:.0f} s.", file=sys.stderr)
    sys.exit(bool(total["wrong"]))


def _row(name: str, counted: Counter[str]) -> str:
    return f"| {name} | {counted.total():,} | {' | '.join(f'{counted[column]:,}' for column in COLUMNS)} |"


if __name__ == "__main__":
    main()
