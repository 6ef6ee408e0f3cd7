"""The MetisRAG controller."""
