"""The RAG service: documents, retrieval, chat, memory."""
