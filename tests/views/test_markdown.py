"""What an agent said is inert before it is shown, and shows the same."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from agent_magic.demo._answers import Answer
from agent_magic.views._markdown import fences, inert, table_rows
from agent_magic.views._segments import settled

X = "<img src=x onerror=alert(1)>"
LIVELY = [
    *(
        f"{opening}\n```\n{closing}\n\n```\n{X}\n```"
        for opening, closing in [
            ("<pre>", "</pre>"),
            ("<!--", "-->"),
            ("<script>", "</script>"),
            ("<style>", "</style>"),
            ("<?", "?>"),
            ("<![CDATA[", "]]>"),
        ]
    ),
    f"[a](https://x/`) {X} `",
    f"see https://x/` {X} `",
    f"www.x.com/` {X} `",
    f"<https://a`b> {X} `",
    f"[a][`] {X} `\n\n[`]: https://x",
    f"$`$ {X} $`$",
    f"`\n\u00a0\n` {X} `",
    f"`\n\x0c\n` {X} `",
    f"- \t```\n\t{X}",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <b onclick=x>bold</b>",
    "> quoted <svg onload=x>",
    "- item\n  <iframe srcdoc='<script>x</script>'></iframe>",
    "| a |\n|---|\n| <img src=x onerror=y> |",
    "| a |\n|---|\n| `<img src=x>` | <img src=x> |",
    "# <math><mtext></mtext></math>",
    "<!-- comment --><?php x ?><![CDATA[x]]>",
    "<style>@import url(http://x)</style>",
    "`unclosed <img src=x onerror=y>",
    "`a\n<img src=x onerror=y>\n`",
    "``a ` <img src=x> `",
    "\\`<img src=x>`",
    "~~~\ncode\n~~~\n<img src=x>",
    "```\ncode\n````\n<img src=x>",
    "`````\n```\n`````\n<img src=x>",
    "```html\n<b>\n```\n<img src=x>",
    "\\<img src=x>",
    "\\\\<img src=x>",
    "$x$ <img src=x> $y$",
    "$a<img src=x>b$",
    "$$\n<img src=x>\n$$",
    "<a href='`'><img src=x>`",
    "text\r<img src=x>\r\n<img src=y>",
]


@pytest.mark.parametrize("source", LIVELY)
@pytest.mark.parametrize("images", [False, True])
def test_no_tag_is_left(source: str, images: bool) -> None:
    """A Markdown parser that lets HTML through finds none in what is shown."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(inert(source, images=images))
    kinds = {child.type for token in tokens for child in [token, *(token.children or [])]}
    assert not kinds & {"html_block", "html_inline"}


@pytest.mark.parametrize(
    "source",
    [
        "[x](javascript:alert(1))",
        "[x]( javascript:alert(1))",
        "[x](<javascript:alert(1)>)",
        "[x](JaVaScRiPt:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](java\\script:alert(1))",
        "[x](data:text/html,x)",
        "[x](vbscript:x)",
        "[x](//evil.example)",
        "[x](/api/shutdown)",
        "[x]\n\n[x]: javascript:alert(1)",
        "[x]\n\n[x]:\njavascript:alert(1)",
        "[x][y]\n\n  [y]: <javascript:alert(1)>",
        "<javascript:alert(1)>",
        "![x](http://evil.example/track.png)",
        "![x][y]\n\n[y]: http://evil.example/track.png",
        "[![x](http://evil.example/a.png)](http://ok.example)",
        "\\\\![x](http://evil.example/a.png)",
        "\\![x](javascript:y)",
    ],
)
def test_links_that_act_and_images_that_fetch(source: str) -> None:
    """No link is left but to http, https, mailto and the page itself, and no image."""
    tokens = MarkdownIt("commonmark").parse(inert(source))
    children = [child for token in tokens for child in token.children or []]
    assert not [child for child in children if child.type == "image"]
    targets = [str(child.attrs["href"]) for child in children if child.type == "link_open"]
    assert all(target.startswith(("http://", "https://", "mailto:", "#")) for target in targets)


@pytest.mark.parametrize(
    "source",
    [
        Answer("Why is the sky blue?", []).text,
        "Code: `<script>` and ``a ` <b>``.\n",
        "```html\n<script>alert(1)</script>\n![x](y)\n```\n",
        '[text](https://ok.example "title") and <3 and a < b and a<5\n',
        "[ref]: https://ok.example\n\n[ref]\n",
        "Hello! [link](#here) (really!)\n",
        "$a < b$ and $5 and $\\frac{a}{b}$ and \\(x\\)\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "~~~\n$ cat <<EOF\n~~~\n",
        "",
        "\n\n",
    ],
)  # fmt: skip
def test_harmless_text_is_left_alone(source: str) -> None:
    """What does nothing is shown to the letter."""
    assert inert(source) == source


def test_tex_keeps_its_meaning_and_loses_its_reach() -> None:
    """In TeX a sign that could begin a tag becomes its command; a command that makes links becomes text."""
    assert inert("$a<b$") == "$a\\lt b$"
    assert "\\href" not in inert("$\\href{javascript:x}{y}$")


def test_images_when_they_are_allowed() -> None:
    """The setting lets images through, and only images."""
    assert inert("![x](https://ok.example/a.png)", images=True) == "![x](https://ok.example/a.png)"
    assert inert("![x](javascript:x)", images=True) == "![x&#93;(javascript:x)"


def test_an_autolink_stays_a_link() -> None:
    """The angle brackets of an autolink are dropped, for front ends link the bare address."""
    assert inert("See <https://ok.example/a?b=c>.") == "See https://ok.example/a?b=c."


def test_fences_and_tables() -> None:
    """What the result offers as code and tables."""
    text = "```python title\nx = 1\n```\n\n- a\n\n  ~~~\n  y\n  ~~~\n\n| a | b |\n|---|---|\n| 1 | `2` |\n"
    assert fences(text) == [("python", "x = 1\n"), ("", "y\n")]
    assert table_rows(text) == [[["a", "b"], ["1", "`2`"]]]


@pytest.mark.parametrize(
    "text",
    [
        "1. Costs $5:\n   ```html\n   <p>$6</p><script>\n   ```",
        "> $5\n> ```\n> $ <img>\n> ```",
        "- a\n  ```\n  a <b\n  ```",
    ],
)
def test_code_that_a_dollar_could_open(text: str) -> None:
    """In a fence that a reader of TeX may not see, a sign that begins a tag begins nothing."""
    shown = inert(text)
    assert shown.replace("\u200b", "") == text
    assert "<script" not in shown
    assert "<img" not in shown


@pytest.mark.parametrize("info", ["../../../files/evil", "x'onerror=y", '"><img src=x>', "a/b", "{.python}", "."])
def test_what_stands_behind_a_fence_is_no_address(info: str) -> None:
    """nbclassic loads a script for the language of a fence; a name that could be a path is taken away."""
    assert inert(f"~~~{info}\na < b\n~~~\n") == "~~~\na < b\n~~~\n"
    assert inert("- ~~~python title=a/b\n  x\n  ~~~\n") == "- ~~~python\n  x\n  ~~~\n"


def test_an_unfinished_fence_is_shown_as_finished() -> None:
    """While a fence is being written it is shown with an end, so that nothing before it can reach into it."""
    assert inert("Prices: $5.\n```html\ncost $ <b>") == "Prices: $5.\n```html\ncost $ <b>\n```\n"


@pytest.mark.parametrize(
    "text", ["\\( ", "$a ", "[", "](", "`a", "``a`", "*a ", "> ", "- ", "|", "<a ", "![", "<!--", "\\`"]
)
def test_no_text_takes_long(text: str) -> None:
    """100 KB of anything is made inert within the time-out of this test, however it repeats."""
    hostile = text * (100_000 // len(text))
    assert "<a " not in inert(hostile)
    assert hostile.startswith(settled(hostile))


def test_nesting_without_end() -> None:
    """Text that is nested beyond any parser is inert all the same, and soon."""
    assert "<img" not in inert("> " * 5000 + "<img src=x>")
    assert "<img" not in inert("[" * 5000 + "<img src=x>" + "](" * 5000)
