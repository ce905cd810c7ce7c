"""What the embedded agent says: Markdown about what it was asked, the same for the same question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterator

__all__ = ["Answer", "sources_about"]

WORD = re.compile(r"\w+")


class Answer:
    """An answer to `question`, in pieces of `size` characters, or of one word where `size` is None."""

    def __init__(self, question: str, before: list[str], size: int | None = None) -> None:
        self.text = _markdown(question, before)
        self.pieces = list(_words(self.text)) if size is None else _slices(self.text, size)
        self.half = len(self.pieces) // 2
        self.input_tokens = len(WORD.findall(question))
        self.output_tokens = len(WORD.findall(self.text))

    async def read(self, start: int = 0) -> AsyncGenerator[tuple[int, str]]:
        """The pieces from `start` on, each with its place."""
        for index in range(start, len(self.pieces)):
            yield index, self.pieces[index]

    @property
    def usage(self) -> dict[str, int]:
        """Token counts in RunAgent's names; this agent counts words."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
        }


def sources_about(question: str) -> list[dict[str, str]]:
    """Search results as the You.com wire lists them."""
    topics = [
        word for word, _ in Counter(word.lower() for word in WORD.findall(question) if len(word) > 3).most_common(2)
    ]
    return [
        {
            "citation_uri": f"https://example.com/{topic}",
            "url": f"https://example.com/{topic}",
            "title": f"All about {topic}",
            "snippet": f"A page that the embedded agent made up about {topic}.",
            "source_type": "web_search",
            "provider": "demo",
        }
        for topic in topics or ["questions"]
    ]


def _words(text: str) -> Iterator[str]:
    yield from re.findall(r"\s*\S+\s*$|\s*\S+", text)


def _slices(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _one_line(question: str, most: int = 60) -> str:
    line = re.sub(r"[`|<>\[\]$*_#]", " ", " ".join(question.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _markdown(question: str, before: list[str]) -> str:
    words = WORD.findall(question)
    counted = Counter(word.lower() for word in words).most_common(4)
    rows = "\n".join(f"| {word} | {count} | {len(word)} |" for word, count in counted) or "| (none) | 0 | 0 |"
    mean = sum(map(len, words)) / len(words) if words else 0.0
    memory = f"Before this you asked me: *{_one_line(before[-1])}*.\n\n" if before else ""
    return f"""\
## You asked: {_one_line(question)}

{memory}I am the **embedded agent**. I do not know the answer, but I can tell you about the *question*: it has \
{len(words)} words and {len(question)} characters, and I say all this over a real connection.

What a real agent would do now:

1. read the question,
2. look for [sources](https://example.com/search),
3. write, piece by piece, what you see here.

| word | count | letters |
|------|------:|--------:|
{rows}

The mean length is $\\bar{{n}} = \\frac{{1}}{{{max(len(words), 1)}}} \\sum_i n_i \\approx {mean:.1f}$. In Python:

```python
words = question.split()
mean = sum(len(word) for word in words) / len(words)
print(f"{{mean:.1f}}")
```

> Name an agent of your own in `agent_magic.toml`, and the same cell asks it instead.
"""
