"""Alembic's entry: runs on the connection that ``app.db.migrate`` hands over."""

from alembic import context

from app.db import models  # noqa: F401 - fills Base.metadata for --autogenerate
from app.db.session import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
