"""Agents, humans, recall, archival, and the queue of what is to be indexed.

Deleting a human or a record takes everything that hangs on it along, the rows of the search
index included: each collection refers to ``archival`` (see ``mem0_server.index.collections``).
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE agents (
    id text PRIMARY KEY,
    name text NOT NULL,
    persona text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE humans (
    id text PRIMARY KEY,
    name text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE recall (
    id bigserial PRIMARY KEY,
    agent_id text NOT NULL CONSTRAINT recall_agent REFERENCES agents ON DELETE CASCADE,
    human_id text NOT NULL CONSTRAINT recall_human REFERENCES humans ON DELETE CASCADE,
    role text NOT NULL,
    content text NOT NULL,
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recall_newest ON recall (human_id, agent_id, id);
CREATE INDEX recall_of_agent ON recall (agent_id);
CREATE UNIQUE INDEX recall_idempotency ON recall (human_id, agent_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The source of truth of all records. Rows of mem0's own interface have the kind 'mem0'; only
-- these may lack an agent or a human.
CREATE TABLE archival (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    seq bigserial NOT NULL,
    agent_id text CONSTRAINT archival_agent REFERENCES agents ON DELETE CASCADE,
    human_id text CONSTRAINT archival_human REFERENCES humans ON DELETE CASCADE,
    run_id text,
    kind text NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT archival_scope CHECK (
        (agent_id IS NOT NULL AND human_id IS NOT NULL)
        OR (kind = 'mem0' AND coalesce(agent_id, human_id, run_id) IS NOT NULL)
    )
);
CREATE INDEX archival_newest ON archival (human_id, agent_id, seq);
CREATE INDEX archival_newest_of_kind ON archival (human_id, agent_id, kind, seq);
CREATE INDEX archival_mem0_human ON archival (human_id, seq) WHERE kind = 'mem0';
CREATE INDEX archival_agent ON archival (agent_id, seq);
CREATE INDEX archival_run ON archival (run_id, seq) WHERE run_id IS NOT NULL;

-- Which write an idempotency key stands for. The row it made may have been replaced since.
CREATE TABLE archival_keys (
    human_id text NOT NULL REFERENCES humans ON DELETE CASCADE,
    agent_id text NOT NULL REFERENCES agents ON DELETE CASCADE,
    idempotency_key text NOT NULL,
    digest bytea NOT NULL,
    record_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (human_id, agent_id, idempotency_key)
);
CREATE INDEX archival_keys_of_agent ON archival_keys (agent_id);

-- One row for each embedding model's table of vectors.
CREATE TABLE index_collections (
    name text PRIMARY KEY,
    model text NOT NULL,
    dimensions integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE index_jobs (
    collection text NOT NULL REFERENCES index_collections ON DELETE CASCADE,
    record_id uuid NOT NULL REFERENCES archival ON DELETE CASCADE,
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    lease uuid,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, record_id)
);
CREATE INDEX index_jobs_due ON index_jobs (collection, not_before);
CREATE INDEX index_jobs_of_record ON index_jobs (record_id);
CREATE INDEX index_jobs_lease ON index_jobs (lease) WHERE lease IS NOT NULL;

-- What was said lately in each scope of mem0's interface: the context of fact extraction.
CREATE TABLE mem0_messages (
    id bigserial PRIMARY KEY,
    scope text NOT NULL,
    human_id text REFERENCES humans ON DELETE CASCADE,
    role text NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mem0_messages_newest ON mem0_messages (scope, id);
CREATE INDEX mem0_messages_of_human ON mem0_messages (human_id, id);
"""


def upgrade() -> None:
    # Does nothing where an administrator made it already, which is how the chart does it.
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        """
        DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT c.name FROM index_collections c LOOP
                EXECUTE format('DROP TABLE IF EXISTS %I', name);
                EXECUTE format('DROP TABLE IF EXISTS %I', name || '_entities');
            END LOOP;
        END $$
        """
    )
    op.execute(
        "DROP TABLE mem0_messages, index_jobs, index_collections, archival_keys, archival, recall, "
        "humans, agents"
    )
