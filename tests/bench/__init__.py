"""Benchmarks: ourselves and a peer in one run on one machine. ``python -m tests.bench --help``.

A group is a module (or package) beside this one with ``rows() -> Iterator[Row]``. The frame is
``rows`` (what a row is), ``report`` (where rows are kept) and ``__main__``; names that begin with
an underscore are nobody's group.
"""
