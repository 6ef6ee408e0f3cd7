"""Files to passages: text with the page and section it stands in."""

from app.rag.documents.parse import SUPPORTED, media_type_of, parse
from app.rag.documents.passage import Passage

__all__ = ["SUPPORTED", "Passage", "media_type_of", "parse"]
