"""Documents with their chunks, conversations with their messages."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = """
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE documents (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    media_type text NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    status text NOT NULL CHECK (status IN ('processing', 'ready', 'failed')),
    error text,
    chunks integer NOT NULL,
    embedding_model text,
    uploaded_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT documents_sha256_name_key UNIQUE (sha256, name)
);
CREATE INDEX ix_documents_created_at ON documents (created_at);
-- Every search leaves these few out (app.rag.store).
CREATE INDEX ix_documents_processing ON documents (id) WHERE status = 'processing';

CREATE TABLE document_files (
    document_id uuid PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    content bytea NOT NULL
);

-- The vector has no fixed length: each embedding model has its own, and its own partial index
-- over the cast to that length, made when its first chunk is stored (app.rag.store).
CREATE TABLE chunks (
    id uuid PRIMARY KEY,
    document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position integer NOT NULL,
    page integer,
    section text,
    text text NOT NULL,
    embedding_model text NOT NULL,
    embedding vector NOT NULL,
    CONSTRAINT chunks_document_id_position_key UNIQUE (document_id, position)
);

CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    title text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_conversations_user_id ON conversations (user_id, updated_at DESC);

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT messages_seq_key UNIQUE,
    conversation_id uuid NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    content text NOT NULL,
    sources jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_messages_conversation_id ON messages (conversation_id, seq);
"""

TABLES = ("messages", "conversations", "chunks", "document_files", "documents")


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
