"""Which collection answers: the one that was last let.

Servers of the version before go on with the collection of their own model meanwhile.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE index_collections ADD COLUMN activated_at timestamptz")
    op.execute(
        "UPDATE index_collections SET activated_at = created_at WHERE name = "
        "(SELECT name FROM index_collections ORDER BY used_at DESC LIMIT 1)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE index_collections DROP COLUMN activated_at")
