"""The memory server built on mem0ai: agents, humans, conversations, archived records, search."""

__version__ = "0.1.0"
