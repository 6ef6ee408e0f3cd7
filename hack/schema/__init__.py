"""Makes every schema and the values reference from the annotated values files.

Run as ``python -m hack.schema``; with ``--check`` nothing is written and the exit status is 1 when
a checked-in file is out of date.
"""
