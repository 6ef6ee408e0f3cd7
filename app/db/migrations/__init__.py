"""Alembic migrations, run by :func:`app.db.migrate.migrate`."""
