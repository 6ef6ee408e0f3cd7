"""What is kept, in SQL: the only package that reads and writes the server's tables.

Each store has one kind of thing, takes the :class:`~mem0_server.database.Database`, and raises
only :mod:`mem0_server.errors`.
"""
