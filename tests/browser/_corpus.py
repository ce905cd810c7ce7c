"""What an agent might say to run a script in the page or to have it fetch something.

In each text FIRE stands for a script that the page notices and HIT for an address that a server counts;
`armed` puts in the text's own number, so that what happens is known to be its doing.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["CORPUS", "armed"]

IMG = "<img src=HIT onerror=FIRE>"
SCRIPT = "<script>FIRE</script>"


def _nested() -> Iterator[str]:
    """Raw HTML in every nesting that Markdown knows."""
    for html in (IMG, SCRIPT):
        yield from (
            html, f"text {html} text", f"# {html}", f"{html}\n===", f"> {html}", f"> > {html}", f"> lazy\n{html}",
            f"- {html}", f"1. {html}", f"- a\n  - {html}", f"- a\n\n  {html}", f"> - {html}", f"- > {html}",
            f"| a |\n|---|\n| {html} |", f"| {html} |\n|---|\n| a |", f"*{html}*", f"**a {html}**", f"~~{html}~~",
            f"[{html}](https://ok.example)", f"![{html}](#)", f"a\\\n{html}", f"a  \n{html}", f"---\n{html}",
            f"\\{html}", f"\\\\{html}", f"&lt;{html}", f"`a` {html}", f"`a {html}", f"<b>{html}</b>",
            f"<div>\n\n{html}\n\n</div>", f"<!-- a -->{html}", f"<!-- {html}", f"<!--> {html} -->",
            f"a\r{html}", f"a\r\n\r\n{html}", f"a\u2028{html}", f"\u00a0{html}", f"\t{html}", f"[^1]\n\n[^1]: {html}",
        )  # fmt: skip


EVENTS = [
    "<svg onload=FIRE>", "<svg/onload=FIRE>", "<SVG ONLOAD=FIRE>", "<svg\nonload=FIRE>", "<svg\tonload = 'FIRE'>",
    "<video src=HIT onerror=FIRE></video>", "<audio src=HIT onerror=FIRE></audio>",
    "<video><source src=HIT onerror=FIRE></video>", "<details open ontoggle=FIRE>a</details>",
    "<input autofocus onfocus=FIRE>", "<select autofocus onfocus=FIRE></select>", "<textarea autofocus onfocus=FIRE>",
    "<b tabindex=1 autofocus onfocus=FIRE>a</b>", "<marquee onstart=FIRE>a</marquee>", "<style onload=FIRE></style>",
    "<link rel=stylesheet href=HIT onload=FIRE>", "<object data=HIT onerror=FIRE></object>",
    "<embed src=HIT onload=FIRE>", "<body onload=FIRE>", "<img src=x: onerror=FIRE//", "<img/src/onerror=FIRE>",
    '<img src="x:" onerror="FIRE" a="', "<img src=x: onerror=&#102;ired(ID)>", "<img \x00src=x: onerror=FIRE>",
    "<b style='animation: x 1s' onanimationstart=FIRE>a</b><style>@keyframes x{}</style>",
    "<b onclick=FIRE id=press>a</b>", "<image src=x: onerror=FIRE>", "<input type=image src=HIT onerror=FIRE>",
]  # fmt: skip
FRAMES = [
    "<iframe src=HIT></iframe>", "<iframe srcdoc='<script>parent.FIRE</script>'></iframe>",
    "<iframe src='javascript:parent.FIRE'></iframe>", "<iframe src='data:text/html,a' onload=FIRE></iframe>",
    "<frameset><frame src=HIT></frameset>", "<object data='javascript:FIRE'></object>", "<embed src='HIT'>",
    "<iframe/src='HIT'>", "<IFRAME SRC=HIT>", "> <iframe src=HIT>", "<portal src=HIT></portal>",
    "<base href=HIT><img src=a>", "<meta http-equiv=refresh content='0;url=HIT'>",
    "<form action=HIT><button autofocus onfocus=FIRE>a</button></form>",
]  # fmt: skip
SVG = [
    "<svg><script>FIRE</script></svg>", "<svg><image href=HIT></image></svg>", "<svg><use href=HIT#a></use></svg>",
    "<svg><a href='javascript:FIRE'><text y=20>a</text></a></svg>", "<svg><style>@import url(HIT);</style></svg>",
    "<svg><animate onbegin=FIRE attributeName=x dur=1s>", "<svg><set onbegin=FIRE attributeName=x>",
    "<svg><foreignObject><img src=HIT onerror=FIRE></foreignObject></svg>", "<svg><image xlink:href=HIT></image></svg>",
    "<svg><feImage href=HIT></feImage></svg>", "<svg><a xlink:href='javascript:FIRE'><text y=20>a</text></a></svg>",
    "<svg><title><img src=HIT onerror=FIRE></title></svg>",
]  # fmt: skip
MATHML = [
    "<math><mtext><img src=HIT onerror=FIRE></mtext></math>", "<math href='javascript:FIRE'>a</math>",
    "<math><maction actiontype=statusline href='javascript:FIRE'>a</maction></math>",
    "<math><annotation-xml encoding='text/html'><img src=HIT onerror=FIRE></annotation-xml></math>",
    "<math><mi//xlink:href='data:x,<script>FIRE</script>'>a", "<math><mglyph><style><img src=HIT onerror=FIRE>",
    "<form><math><mtext></form><form><mglyph><style></math><img src=HIT onerror=FIRE>",
]  # fmt: skip
CSS = [
    "<style>@import url(HIT);</style>", "<style>body{background:url(HIT)}</style>", "<b style='background:url(HIT)'>a</b>",
    "<b style='list-style-image:url(HIT);display:list-item'>a</b>", "<link rel=stylesheet href=HIT>",
    "<b style='content:url(HIT)'>a</b>", "<table background=HIT><tr><td>a</table>", "<style>\n\n@import 'HIT';\n\n</style>",
    "<b style='border-image:url(HIT) 1'>a</b>", "<b style='cursor:url(HIT),auto'>a</b>", "<link rel=preload as=image href=HIT>",
    '<b style="--a:url(HIT);background:var(--a)">a</b>', "<td style='background-image:image-set(url(HIT) 1x)'>a",
]  # fmt: skip
LINKS = [
    f"[a]({link})"
    for link in (
        "javascript:FIRE", "JaVaScRiPt:FIRE", " javascript:FIRE", "<javascript:FIRE>", "<java\tscript:FIRE>",
        "&#106;avascript:FIRE", "&#x6A;avascript:FIRE", "javascript&colon;FIRE", "javascript&#58;FIRE", "javascript&#0058;FIRE",
        "java&Tab;script:FIRE", "java&NewLine;script:FIRE", "\x01javascript:FIRE", "\u00a0javascript:FIRE",
        "java\\script:FIRE", "javascript\\:FIRE", "//HIT", "data:text/html,<script>FIRE</script>",
        "data:text/html;base64,PHNjcmlwdD4=", "DATA:text/html,FIRE", "vbscript:FIRE", "file:///etc/passwd",
        "blob:http://ok.example/a", "javascript:FIRE 'a title'", "feed:javascript:FIRE", "view-source:javascript:FIRE",
        "&Tab;javascript:FIRE", "&#1;javascript:FIRE", "jav&#x09;ascript:FIRE", "j&#97v&#97script:FIRE", "\njavascript:FIRE\n",
        "../lab/tree/a?reset", "/api/shutdown",
    )
] + [
    "[*a*](javascript:FIRE)", "[`a`](javascript:FIRE)", "[a [b] c](javascript:FIRE)", "[![](#)](javascript:FIRE)",
    "| a |\n|---|\n| [a](javascript:FIRE) |", "> [a](javascript:FIRE)", "- [a](javascript:FIRE)", "# [a](javascript:FIRE)",
    "[a\\]](javascript:FIRE)", "[`](`javascript:FIRE)", "[a]\t(javascript:FIRE)", "$[$a](javascript:FIRE)", "\\\\[a](javascript:FIRE)",
    "<a href='javascript:FIRE'>a</a>", "<a href=' javascript:FIRE'>a</a>", "<area href='javascript:FIRE'>",
    "<form action='javascript:FIRE'><button>a</button></form>", "<button formaction='javascript:FIRE' form=x>a</button>",
]  # fmt: skip
REFERENCES = [
    "[a]\n\n[a]: javascript:FIRE", "[a]\n\n[a]: <javascript:FIRE>", "[a]\n\n[a]:\njavascript:FIRE", "[a][]\n\n[a]: javascript:FIRE",
    "[b][a]\n\n[a]: javascript:FIRE 'title'", "[a]\n\n  [A]: JAVASCRIPT:FIRE", "[a]\n\n> [a]: javascript:FIRE",
    "[a]\n\n- [a]: javascript:FIRE", "[a]: javascript:FIRE\n\n[a]", "![a]\n\n[a]: HIT", "![b][a]\n\n[a]: HIT",
    "[a]\n\n[a]: javascript&colon;FIRE", "[a]\n\n[a]: data:text/html,<script>FIRE</script>", "[a\\]]\n\n[a\\]]: javascript:FIRE",
    "[a]\n\n[a]:\n\n  javascript:FIRE", "[a]\n\n[a]: &#106;avascript:FIRE",
]  # fmt: skip
AUTOLINKS = [
    "<javascript:FIRE>", "<JAVASCRIPT:FIRE>", "<data:text/html,a>", "<vbscript:FIRE>", "<https://ok.example/<img src=HIT>",
    "<https://ok.example/`> <img src=HIT onerror=FIRE> `", "<https://ok.example onclick=FIRE>", "javascript:FIRE",
    "<mailto:a@b.example?body=<img src=HIT>", "www.ok.example/`<img src=HIT onerror=FIRE>`", "<a@b.example><img src=HIT>",
]  # fmt: skip
IMAGES = [
    "![a](HIT)", "![](HIT)", "![a](<HIT>)", "![a](HIT 'title')", "[![a](HIT)](https://ok.example)", "text ![a](HIT) text",
    "> ![a](HIT)", "- ![a](HIT)", "| a |\n|---|\n| ![a](HIT) |", "# ![a](HIT)", "!\\[a](HIT)", "\\\\![a](HIT)", "**![a](HIT)**",
    "![a\\]b](HIT)", "![`a`](HIT)", "![a ![b](HIT) c](HIT)", "![a][b]\n\n[b]: <HIT>", "!&#91;a](HIT)", "![a]( HIT )", "![a](\nHIT\n)",
    "$a$ ![a](HIT) $b$", "`a` ![a](HIT)", "![a](HIT)![a](HIT)",
]  # fmt: skip
HTML_BLOCKS = [
    f"<pre>\n```\n</pre>\n\n```\n{IMG}\n```", f"<!--\n```\n-->\n\n```\n{IMG}\n```", f"<style>\n```\n</style>\n\n```\n{IMG}\n```",
    f"<?\n```\n?>\n\n```\n{IMG}\n```", f"<![CDATA[\n```\n]]>\n\n```\n{IMG}\n```", f"<script>\n```\n</script>\n\n```\n{IMG}\n```",
    f"<div\n\n{IMG}", f"<table>\n<tr>\n<td>{IMG}", f"<a href='`'>{IMG}`", f"a\n<div>{IMG}</div>", f"<x-y>\n{IMG}\n</x-y>",
    f"</p>{IMG}", f"<plaintext>{IMG}", f"<noscript><p title='</noscript>{IMG}'>", f"<template>{IMG}</template>{IMG}",
    f"<title>{IMG}</title>{IMG}", f"<textarea>{IMG}</textarea>{IMG}", f"<xmp>{IMG}</xmp>{IMG}",
]  # fmt: skip
FENCES = [
    f"```\n{IMG}\n\n{IMG}", f"```\na\n```{IMG}", f"~~~\na\n~~~\n{IMG}", f"```\na\n````\n{IMG}", f"`````\n```\n`````\n{IMG}",
    f"- ```\n  a\n{IMG}", f"> ```\n> a\n{IMG}", f"``` `\n{IMG}\n```", f"   ```\n   a\n   ```\n{IMG}", f"    ```\n{IMG}\n    ```",
    f"- \t```\n\t{IMG}", f"`\n\n{IMG}`", f"`` ` {IMG}", f"`a\n{IMG}\n`", f"\\`{IMG}`", f"~~~ python\n{IMG}", f"1. ```\n{IMG}\n   ```",
    f"```{IMG}\na\n```", '``` "><img src=HIT onerror=FIRE>\na\n```', "```x'onerror=FIRE\na\n```", f"*`{IMG}*`", f"|`|`|\n|-|-|\n|{IMG}|`|",
]  # fmt: skip
TEX = [
    f"$a{IMG}b$", f"$$\n{IMG}\n$$", f"\\({IMG}\\)", f"\\[{IMG}\\]", f"$`$ {IMG} $`$", f"Costs $5 `{IMG}` and $6 `", f"$5:\n```\n{IMG}$\n```",
    "$\\href{javascript:FIRE}{a}$", "$$\\href{javascript:FIRE}{a}$$", "\\(\\href{javascript:FIRE}{a}\\)", "$\\url{javascript:FIRE}$",
    "$\\class{a' onload='FIRE}{a}$", "$\\style{background:url(HIT)}{a}$", "$\\cssId{a}{a}$", "$\\unicode[x;background:url(HIT)]{65}$",
    "$\\require{html}\\href{javascript:FIRE}{a}$", "$\\includegraphics{HIT}$", "$\\def\\a{\\href{javascript:FIRE}{a}}\\a$",
    "$\\bbox[url(HIT)]{a}$", "$\\data{onload=FIRE}{a}$", "$\\csname href\\endcsname{javascript:FIRE}{a}$", "$\\text{<img src=HIT onerror=FIRE>}$",
    "\\begin{equation}\\href{javascript:FIRE}{a}\\end{equation}", "\\begin{align}<img src=HIT onerror=FIRE>\\end{align}",
    "$\\text{$\\href{javascript:FIRE}{a}$}$", "$\\mbox{\\href{javascript:FIRE}{a}}$", "$\\htmlData{a=b}{c}$", "$\\let\\b\\href\\b{javascript:FIRE}{a}$",
]  # fmt: skip
KINDS = {
    "nested HTML": list(_nested()), "event": EVENTS, "frame": FRAMES, "SVG": SVG, "MathML": MATHML, "CSS": CSS, "link": LINKS,
    "reference": REFERENCES, "autolink": AUTOLINKS, "image": IMAGES, "HTML block": HTML_BLOCKS, "fence": FENCES, "TeX": TEX,
}  # fmt: skip
CORPUS: list[tuple[str, str]] = [(kind, text) for kind, texts in KINDS.items() for text in texts]


def armed(text: str, number: int, server: str) -> str:
    """`text` with its script and its address."""
    return (
        text.replace("FIRE", f"fired({number})")
        .replace("HIT", f"{server}/hit/{number}/")
        .replace("(ID)", f"({number})")
    )
