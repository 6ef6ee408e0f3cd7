"""PDF: the text of each page."""

from __future__ import annotations

import io
import re

from pypdf import PageObject, PasswordType, PdfReader
from pypdf.errors import DependencyError, PyPdfError

from app.errors import DocumentError
from app.rag.documents.passage import Passage, cleaned

_HYPHENATED = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


def parse_pdf(name: str, data: bytes) -> list[Passage]:
    """One passage a page with text; pages count from 1 as a viewer shows them."""
    if b"%PDF-" not in data[:1024]:
        raise DocumentError(f"{name} is not a PDF file, whatever its name says; export it anew")
    try:
        reader = PdfReader(io.BytesIO(data))
        _unlock(name, reader)
        pages = [_text(page) for page in reader.pages]
    except DocumentError:
        raise
    except RecursionError as error:
        raise _damaged(name, "too deeply nested") from error
    except Exception as error:
        raise _damaged(name, str(error) or type(error).__name__) from error
    return [Passage(text, page=number) for number, text in enumerate(pages, 1) if text]


def _unlock(name: str, reader: PdfReader) -> None:
    """Open a file whose password is empty; raises DocumentError for any other encrypted one."""
    if not reader.is_encrypted:
        return
    try:
        opened = reader.decrypt("") is not PasswordType.NOT_DECRYPTED
    except (DependencyError, PyPdfError, NotImplementedError):
        opened = False
    if not opened:
        raise DocumentError(
            f"{name} is encrypted; remove its password (open it, then print or export it to a new "
            "PDF) and upload that"
        )


def _text(page: PageObject) -> str:
    return cleaned(_HYPHENATED.sub("", page.extract_text()))


def _damaged(name: str, reason: str) -> DocumentError:
    return DocumentError(
        f"{name} is a damaged PDF ({reason[:200]}); open it in a viewer and export it anew"
    )
