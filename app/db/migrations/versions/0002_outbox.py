"""The outbox: what memory is to learn, until Mem0 has it."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key uuid NOT NULL CONSTRAINT outbox_key_key UNIQUE,
    human_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('message', 'preferences', 'interaction', 'forget')),
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    parked_at timestamptz,
    reason text
);
-- The oldest waiting row of each human, which is the only one that may be delivered.
CREATE INDEX ix_outbox_waiting ON outbox (human_id, id)
    WHERE delivered_at IS NULL AND parked_at IS NULL;
-- The newest rows of a kind, for whoever reads a human's memory.
CREATE INDEX ix_outbox_human_id ON outbox (human_id, kind, id);
CREATE INDEX ix_outbox_delivered_at ON outbox (delivered_at) WHERE delivered_at IS NOT NULL;

-- On every insert, whoever makes it, some replica delivers.
CREATE FUNCTION outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('metis_outbox', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_wake AFTER INSERT ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_wake();
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute("DROP TABLE outbox")
    op.execute("DROP FUNCTION outbox_wake")
