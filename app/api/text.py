"""Text that comes in from outside."""

from __future__ import annotations


def storable(text: str) -> str:
    """``text``, when PostgreSQL can hold it; raises ValueError for NUL and lone surrogates."""
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("must be valid Unicode") from error
    return text
