"""Plain text, and the decoding of everything that is text."""

from __future__ import annotations

import codecs

from app.errors import DocumentError
from app.rag.documents.passage import Passage, cleaned

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(name: str, data: bytes) -> str:
    """Bytes of a text file as text: by its byte order mark, as UTF-8, else as Windows-1252.

    Raises DocumentError for bytes that are no text in any of them.
    """
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if marked is None and b"\x00" in data:
        raise DocumentError(f"{name} is not a text file, whatever its name says; upload it as text")
    for encoding in (marked,) if marked else ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DocumentError(f"{name} is in an unknown encoding; save it as UTF-8 and upload it again")


def parse_text(text: str) -> list[Passage]:
    """The whole text as one passage."""
    plain = cleaned(text)
    return [Passage(plain)] if plain else []
