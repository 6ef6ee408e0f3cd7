"""One entry for all formats: which parser reads a file, and a clear error when none can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from app.errors import DocumentError
from app.rag.documents.html import parse_html
from app.rag.documents.markdown import parse_markdown
from app.rag.documents.passage import Passage
from app.rag.documents.pdf import parse_pdf
from app.rag.documents.text import decode, parse_text

_KINDS: dict[str, str] = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".rst": "text/plain",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".pdf": "application/pdf",
}
SUPPORTED = tuple(_KINDS)
"""Endings of the files that can be read."""

_PARSERS: dict[str, Callable[[str, bytes], list[Passage]]] = {
    "text/plain": lambda name, data: parse_text(decode(name, data)),
    "text/csv": lambda name, data: parse_text(decode(name, data)),
    "text/markdown": lambda name, data: parse_markdown(decode(name, data)),
    "text/html": parse_html,
    "application/pdf": parse_pdf,
}


def media_type_of(name: str) -> str:
    """The media type by the name's ending; ``application/octet-stream`` for an unknown one."""
    return _KINDS.get(PurePath(name).suffix.lower(), "application/octet-stream")


def parse(name: str, data: bytes) -> list[Passage]:
    """The passages of a file, in reading order, at least one.

    Raises DocumentError, which names the file and the cure: for an empty, unsupported, damaged or
    encrypted file, and for one without any text.
    """
    if not data:
        raise DocumentError(f"{name} is empty: there is nothing to read")
    kind = media_type_of(name)
    if kind not in _PARSERS:
        raise DocumentError(
            f"{name} is not of a kind that can be read; upload one of {', '.join(SUPPORTED)}"
        )
    passages = _PARSERS[kind](name, data)
    if not passages:
        raise DocumentError(
            f"{name} holds no text; if it is a scan, run text recognition (OCR) on it first"
        )
    return passages
