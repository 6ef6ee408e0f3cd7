"""What became of memories, facts to find in messages, and which collections are in use.

Everything is added, nothing changed: servers of the version before go on working meanwhile.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHANGES = """
-- Null while a memory is as it was made.
ALTER TABLE archival ADD COLUMN updated_at timestamptz;
CREATE INDEX archival_of_human ON archival (human_id, seq);

-- What became of each memory of mem0's interface. It outlives the memory, but not its words: a
-- deletion takes those away here too.
CREATE TABLE mem0_history (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    seq bigserial NOT NULL,
    memory_id uuid NOT NULL,
    agent_id text REFERENCES agents ON DELETE CASCADE,
    human_id text REFERENCES humans ON DELETE CASCADE,
    run_id text,
    event text NOT NULL,
    old_memory text,
    new_memory text,
    actor_id text,
    role text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX mem0_history_of_memory ON mem0_history (memory_id, seq);
CREATE INDEX mem0_history_of_human ON mem0_history (human_id, seq);
CREATE INDEX mem0_history_of_agent ON mem0_history (agent_id);

-- Memories that were there before have been added, too.
INSERT INTO mem0_history
    (memory_id, agent_id, human_id, run_id, event, new_memory, actor_id, role, created_at,
     updated_at)
SELECT id, agent_id, human_id, run_id, 'ADD', data->>'memory', data->>'actor_id', data->>'role',
       created_at, created_at
FROM archival WHERE kind = 'mem0' ORDER BY seq;

-- Messages of recall in which facts are to be found.
CREATE TABLE infer_jobs (
    message_id bigint PRIMARY KEY REFERENCES recall ON DELETE CASCADE,
    agent_id text NOT NULL,
    human_id text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    lease uuid,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX infer_jobs_of_conversation ON infer_jobs (human_id, agent_id, message_id);
CREATE INDEX infer_jobs_lease ON infer_jobs (lease) WHERE lease IS NOT NULL;

-- Which agent and run were spoken of, so that forgetting one of them finds its messages.
ALTER TABLE mem0_messages
    ADD COLUMN agent_id text GENERATED ALWAYS AS (scope::jsonb->>1) STORED,
    ADD COLUMN run_id text GENERATED ALWAYS AS (scope::jsonb->>2) STORED;
CREATE INDEX mem0_messages_of_agent ON mem0_messages (agent_id);
CREATE INDEX mem0_messages_of_run ON mem0_messages (run_id);

-- Servers say now and then which collection they use; one that nobody uses can go.
ALTER TABLE index_collections ADD COLUMN used_at timestamptz NOT NULL DEFAULT now();
"""


def upgrade() -> None:
    op.execute(CHANGES)


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE index_collections DROP COLUMN used_at;
        DROP TABLE infer_jobs, mem0_history;
        ALTER TABLE mem0_messages DROP COLUMN agent_id, DROP COLUMN run_id;
        DROP INDEX archival_of_human;
        ALTER TABLE archival DROP COLUMN updated_at;
        """
    )
