"""The documents that an answer rests on, each address once, and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from agent_magic.events import Source
from agent_magic.views._markdown import inert

__all__ = ["sources_as_markdown", "unique_sources"]

PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# What a destination may hold as it is: RFC 3986's reserved signs, but for those that Markdown or TeX read.
SAFE_IN_URL = "%/:?#@!&+,;=~"


def unique_sources(sources: Iterable[Source]) -> list[Source]:
    """`sources` in the order in which they came, each address once."""
    found: dict[str, Source] = {}
    for source in sources:
        if source.url not in found or not found[source.url].title:
            found[source.url] = source
    return list(found.values())


def sources_as_markdown(sources: Iterable[Source]) -> str:
    """A numbered list with links, as inert as an answer is."""
    return inert("\n".join(f"{number}. {_entry(source)}" for number, source in enumerate(sources, 1)))


def _entry(source: Source) -> str:
    title = PUNCTUATION.sub(r"\\\1", " ".join((source.title or source.url).split()))
    return f"[{title}]({quote(source.url, safe=SAFE_IN_URL)})" if _leads_to_the_web(source.url) else title


def _leads_to_the_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False
