"""The RAG service: documents, retrieval, chat, memory."""

__version__ = "0.1.0"
