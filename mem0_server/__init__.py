"""The memory server built on mem0ai."""
