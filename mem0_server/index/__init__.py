"""The search index: a copy of ``archival`` in mem0ai's collections that can be rebuilt.

``text`` says what of a record is embedded, ``library`` is the only module that touches mem0ai,
``indexer`` drains the queue and searches, ``extraction`` finds facts in messages.
"""
