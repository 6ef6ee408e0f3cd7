"""What is embedded for a chunk or a question: the text, with what its model was trained to see."""

from __future__ import annotations

from dataclasses import dataclass

from app.rag.chunking import Chunk
from app.rag.documents.passage import SECTION_SEPARATOR


@dataclass(frozen=True)
class Prefixes:
    """Words that a model expects in front of what it embeds."""

    document: str = ""
    query: str = ""


# From the model cards: https://huggingface.co/nomic-ai/nomic-embed-text-v1.5,
# https://huggingface.co/mixedbread-ai/mxbai-embed-large-v1,
# https://huggingface.co/Snowflake/snowflake-arctic-embed-l
_SEARCH = "Represent this sentence for searching relevant passages: "
_BY_FAMILY = {
    "nomic-embed-text": Prefixes("search_document: ", "search_query: "),
    "mxbai-embed-large": Prefixes(query=_SEARCH),
    "snowflake-arctic-embed": Prefixes(query=_SEARCH),
}


def prefixes_of(model: str) -> Prefixes:
    """The prefixes for a model name such as ``library/nomic-embed-text:v1.5``; empty by default."""
    family = model.rsplit("/", 1)[-1].split(":")[0]
    return _BY_FAMILY.get(family, Prefixes())


def embedded_text(model: str, document_name: str, chunk: Chunk) -> str:
    """What is embedded for a chunk: its text under the document's name and its section.

    A passage such as "Twenty days a year" says what it is about in its headings only.
    """
    # Small embedding models read plain ASCII best, so the path's separator is left out.
    section = (chunk.section or "").replace(SECTION_SEPARATOR, ", ")
    place = f"{document_name}: {section}" if section else document_name
    return f"{prefixes_of(model).document}{place}\n{chunk.text}"


def embedded_question(model: str, question: str) -> str:
    """What is embedded for a question."""
    return prefixes_of(model).query + question
