"""The connection cut at every byte of a reply, before five kinds of server, on three wires.

What a correct client holds is reckoned here from the pieces and the lengths of the events alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from multiprocessing import get_context
from typing import Any, get_args

import pytest

from agent_magic.errors import StreamLost
from agent_magic.testing import (
    Cut,
    Resume,
    RunAgentService,
    ScriptedServer,
    Service,
    YouResearchService,
    YouService,
    head,
    run_together,
)
from tests.faults._cases import PATIENT, check_ending

HIGH, LOW = "\ud83e", "\uddec"  # the two halves of one character, as a server cuts it that counts in UTF-16
PIECES = [
    "Why the sky is blue: ", "", "sunlight is ", "made of many colours, ", "and air scatters ", "the short waves more. ",
    f"A helix {HIGH}", f"{LOW} goes along, ", "漢字 and é too, ", "\n\ndata: not a field\n\n", "a\u2028b\u0085c\x00d ",
    "event: done\r\n\r\n", "| a | b |\n|---|---|\n", "```python\nprint(1)\n```\n", "x" * 700, " y" * 350, "z " * 100,
    f"tail {HIGH}", "no second half ", "the end", ".",
]  # fmt: skip
SERVICES: dict[str, Service] = {
    "runagent": RunAgentService(PIECES),
    "you": YouService(PIECES[5:12] + PIECES[14:15] + PIECES[17:18]),
    "you-research": YouResearchService([*PIECES[:3], *PIECES[6:14], *PIECES[17:]]),
}
RESUMES: tuple[Resume, ...] = get_args(Resume)
CUTS: tuple[Cut, ...] = get_args(Cut)


def joined(pieces: Sequence[str]) -> str:
    """The text of `pieces`, halves of characters put together, lone ones replaced."""
    return "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def events_within(service: Service, place: int) -> int:
    """How many events are whole in the first `place` bytes of the reply."""
    # The CR of the last CRLF ends the empty line already: by the standard a CR alone is a line's end.
    spare = 1 if service.recorded.endswith(b"\r\n") else 0
    ends, end = [], len(head())
    for event in service.events:
        end += len(event)
        ends.append(end - spare)
    return sum(end <= place for end in ends)


def expected(service: Service, place: int, resume: Resume) -> tuple[str, str, int, int]:
    """Status, text, number of notices and number of requests, as a correct client has them at the end."""
    if isinstance(service, YouResearchService):
        return expected_of_task(service, place, resume)
    whole = events_within(service, place)
    pieces = service.pieces
    seen = min(max(0, whole - len(service.opening())), len(pieces))
    if whole == len(service.events):
        return "done", joined(pieces), 0, 1
    if whole == 0:
        return "done", joined(pieces), 0, 2
    if isinstance(service, YouService):
        return "failed", joined(pieces[:seen]), 0, 1
    if resume == "forgot":
        return "failed", joined(pieces[:seen]), 0, 2
    if resume == "skips":
        left = service.skipped_to(seen)
        return "done", joined([*pieces[:seen], *pieces[left:]]), int(left > seen), 2
    return "done", joined(pieces), 0, 2


def expected_of_task(service: YouResearchService, place: int, resume: Resume) -> tuple[str, str, int, int]:
    """As `expected`, where the answer stands behind three requests, and the last one's reply has the text."""
    text = joined(service.pieces)
    named, stream, _ = map(len, service.replies)
    if place == len(service.reply):
        return "done", text, 0, 3
    taken = service.replies[0].index(b"\r\n\r\n") + 4
    if place < taken:
        return "done", text, 0, 4
    if place < named:  # the question has been taken: another POST would be another task
        return "failed", "", 0, 1
    whole = events_within(service, place - named)
    if place < named + stream and whole < len(service.events):
        seen = max(0, whole - len(service.opening()))
        if resume == "forgot" and place > named:
            return "failed", "", 1, 3
        is_gap = resume == "skips" and 0 < seen < service.skipped_to(seen)
        return "done", text, int(is_gap), 3 if place == named else 4
    # The stream has been read to its last event. A cut at the end of one reply touches none.
    if place == named + stream or place < named + stream:
        return "done", text, 0, 3
    return ("failed", "", 1, 4) if resume == "forgot" else ("done", text, 0, 4)


def try_cuts(wire: str, resume: Resume, cases: Sequence[tuple[int, Cut]]) -> tuple[Counter[str], list[str]]:
    """Cut at each of the places; the number of each outcome, and what is wrong, a line each."""
    # Without it, httpcore looks for this module on the disk anew for each connection.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
    service = SERVICES[wire]
    asked: Counter[int] = Counter()

    def number(body: dict[str, Any]) -> int:
        return int(body.get("parameters", body)["case"])

    def place(body: dict[str, Any]) -> int | None:
        asked[number(body)] += 1
        return cases[number(body)][0] if asked[number(body)] == 1 else None

    outcomes: Counter[str] = Counter()
    wrong = []
    with ScriptedServer(service.cuts(place, lambda body: cases[number(body)][1], resume)) as server:
        requests = (
            {"url": server.url, "protocol": service.protocol, "policy": PATIENT, "parameters": {"case": case}}
            for case in range(len(cases))
        )
        for (where, cut), run in zip(cases, run_together(requests, 24), strict=True):
            transcript = run.transcript
            tries = sum(type(event).__name__ == "Connecting" for event in transcript.events)
            seen = (transcript.status, transcript.text, len(transcript.notices), tries)
            complaints = list(check_ending(run, server.url, None))
            if seen != (due := expected(service, where, resume)):
                complaints.append(f"{seen} and not {due}: {transcript.error} {transcript.notices}")
            if transcript.status == "failed" and type(transcript.error) is not StreamLost:
                complaints.append(f"{transcript.error!r} is no StreamLost")
            is_said = transcript.status == "done" and transcript.notices
            outcomes["wrong" if complaints else "said" if is_said else transcript.status] += 1
            wrong += [f"{wire} {resume} {cut} at {where}: {said}" for said in complaints]
    return outcomes, wrong


def plan(*, everything: bool) -> Iterator[tuple[str, Resume, list[tuple[int, Cut]]]]:
    """The cuts to try: `everything` is each place with each cut and each server.

    Without it each place is cut both ways before servers that take turns, and before every server next to
    where an event ends. You.com's wire asks again only where nothing had arrived, so behind that one kind
    of server stands for all. Its research takes three requests a run: there the two cuts take turns.
    """
    for wire, service in SERVICES.items():
        begin = len(service.replies[0]) if isinstance(service, YouResearchService) else 0
        ends = list(accumulate(map(len, service.events), initial=begin + len(head())))
        near = {end + step for end in ends for step in (-1, 0, 1)}
        last_asked_again = ends[1] if wire == "you" else len(service.reply)
        takes_turns = wire == "you-research" and not everything

        def is_tried(place: int, turn: int, server: int, near: set[int] = near, last: int = last_asked_again) -> bool:
            if place > last:
                return server == 0
            return everything or place in near or (place + turn) % len(RESUMES) == server

        for server, resume in enumerate(RESUMES):
            places = range(len(service.reply) + 1)
            turns = [(place, turn) for place in places for turn in ([place % 2] if takes_turns else range(len(CUTS)))]
            cases = [(place, CUTS[turn]) for place, turn in turns if is_tried(place, turn, server)]
            for start in range(0, len(cases), 500):
                yield wire, resume, cases[start : start + 500]


def try_all(*, everything: bool) -> tuple[dict[tuple[str, str], Counter[str]], list[str]]:
    """All of the plan, in two processes: the outcomes by wire and server, and what is wrong."""
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    wrong: list[str] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tasks = list(plan(everything=everything))
        results = pool.map(try_cuts, *zip(*tasks, strict=True))
        for (wire, resume, _), (counted, complaints) in zip(tasks, results, strict=True):
            outcomes.setdefault((wire, resume), Counter()).update(counted)
            wrong += complaints
    return outcomes, wrong


def test_recorded_answers_are_long_enough() -> None:
    """At least 3,000 bytes, and every byte of them is a place to cut."""
    assert all(len(service.recorded) >= 3000 for service in SERVICES.values())


@pytest.mark.timeout(240)
def test_cut_at_every_byte() -> None:
    """Cut anywhere, before every kind of server, the text is what a correct client would hold."""
    outcomes, wrong = try_all(everything=False)
    assert wrong == []
    assert sum(counted.total() for counted in outcomes.values()) > 2 * 3000 + 2 * 3000
