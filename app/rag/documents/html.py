"""HTML: what a reader sees, cut at its headings."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Comment, Declaration, Doctype, Tag
from bs4.element import CData, NavigableString, PageElement, ProcessingInstruction

from app.errors import DocumentError
from app.rag.documents.passage import Outline, Passage, passages_of

_HEADING = re.compile(r"h[1-6]")
_UNSEEN = ("script", "style", "template", "noscript", "head", "nav", "svg", "iframe", "object")
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "br", "caption", "dd", "details", "div", "dl",
        "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main",
        "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
    }
)  # fmt: skip
_NO_TEXT = (Comment, Declaration, Doctype, ProcessingInstruction, CData)
_SPACES = re.compile(r"[ \t\r\n\u00a0]+")


def parse_html(name: str, data: bytes) -> list[Passage]:
    """Passages by section; scripts, styles and navigation are left out."""
    try:
        soup = BeautifulSoup(data, "html.parser")
    except (ValueError, AssertionError, RecursionError) as error:
        raise DocumentError(
            f"{name} is not HTML that can be read ({error}); open it in a browser and save it anew"
        ) from error
    for unseen in soup.find_all(_UNSEEN):
        unseen.decompose()
    outline = Outline()
    parts: list[tuple[str | None, str]] = []
    words: list[str] = []
    element: PageElement | None = soup.contents[0] if soup.contents else None
    while element is not None:
        if isinstance(element, Tag) and _HEADING.fullmatch(element.name):
            parts.append((outline.path, _joined(words)))
            words = []
            outline.enter(int(element.name[1]), _SPACES.sub(" ", element.get_text(" ")).strip())
            element = _after(element)
            continue
        words.append(_written(element))
        element = element.next_element
    parts.append((outline.path, _joined(words)))
    return passages_of(parts)


def _written(element: PageElement) -> str:
    """What an element puts on the page by itself, its children apart."""
    if isinstance(element, Tag):
        if element.name == "li":
            return "\n- "
        if element.name in ("td", "th"):
            first = element.find_previous_sibling(["td", "th"]) is None
            return "" if first else " | "
        return "\n" if element.name in _BLOCKS else ""
    if isinstance(element, NavigableString) and not isinstance(element, _NO_TEXT):
        inside_pre = element.find_parent("pre") is not None
        text = str(element) if inside_pre else _SPACES.sub(" ", str(element))
        # Text that follows a closed block begins a line of its own.
        before = element.previous_sibling
        closed = isinstance(before, Tag) and before.name in _BLOCKS and before.name != "br"
        return "\n" + text if closed else text
    return ""


def _after(tag: Tag) -> PageElement | None:
    """The element that follows a tag and everything in it."""
    last: PageElement = tag
    while isinstance(last, Tag) and last.contents:
        last = last.contents[-1]
    return last.next_element


def _joined(words: list[str]) -> str:
    lines = (line.strip(" ") for line in "".join(words).split("\n"))
    return "\n".join(line for line in lines if line not in ("", "-"))
