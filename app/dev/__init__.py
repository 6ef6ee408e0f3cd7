"""The whole system on one machine, without containers: ``make dev``, and the component tests.

PostgreSQL comes from a Python package; the app and the Mem0 server are the programs that run in
the cluster, prepared and configured as there. Nothing here is imported by the app itself, and
only :mod:`app.dev.postgres` needs a package that its image does not have.
"""
