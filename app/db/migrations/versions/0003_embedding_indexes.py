"""Each embedding model's vectors in a table of their own, and which of them are in use.

Replicas of the version before go on working while a roll-out lasts: ``chunks.embedding`` stays,
only no longer filled. What they still store there gets its vector in the new table afterwards
(app.rag.reindexing). The next revision may drop the two columns.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE TABLE embedding_indexes (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    digest text,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    state text NOT NULL CHECK (state IN ('active', 'building', 'retired')),
    done bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    rate double precision NOT NULL DEFAULT 0,
    trouble text,
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
-- One that answers, and one beside it that is being built.
CREATE UNIQUE INDEX embedding_indexes_live ON embedding_indexes (state) WHERE state <> 'retired';
"""

# What there is becomes the first index. The copy and its search index come first, as they take
# long; only what follows the lock holds up the writers of chunks.
FIRST = """
DO $$
DECLARE
    of_model text;
    length integer;
    number integer;
BEGIN
    SELECT embedding_model, vector_dims(embedding) INTO of_model, length
    FROM chunks GROUP BY 1, 2 ORDER BY count(*) DESC LIMIT 1;
    IF of_model IS NOT NULL THEN
        INSERT INTO embedding_indexes (model, dimensions, state)
        VALUES (of_model, length, 'active') RETURNING id INTO number;
        EXECUTE format(
            'CREATE TABLE vectors_%s (chunk_id uuid PRIMARY KEY, document_id uuid NOT NULL,'
            ' embedding vector(%s) NOT NULL)', number, length);
        EXECUTE format(
            'INSERT INTO vectors_%s SELECT id, document_id, embedding FROM chunks'
            ' WHERE embedding_model = %L AND vector_dims(embedding) = %s',
            number, of_model, length);
        IF length <= 2000 THEN
            EXECUTE format(
                'CREATE INDEX vectors_%s_hnsw ON vectors_%s USING hnsw'
                ' (embedding vector_cosine_ops)', number, number);
        END IF;
        LOCK TABLE chunks IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format(
            'DELETE FROM vectors_%s v'
            ' WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.id = v.chunk_id)', number);
        EXECUTE format(
            'ALTER TABLE vectors_%s ADD FOREIGN KEY (chunk_id) REFERENCES chunks ON DELETE CASCADE',
            number);
    END IF;
END
$$;
ALTER TABLE chunks ALTER COLUMN embedding DROP NOT NULL,
                   ALTER COLUMN embedding_model DROP NOT NULL;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
    op.execute(FIRST)


def downgrade() -> None:
    op.execute(
        """
        DO $$ DECLARE number integer; BEGIN
            FOR number IN SELECT id FROM embedding_indexes LOOP
                EXECUTE format('DROP TABLE IF EXISTS vectors_%s', number);
            END LOOP;
        END $$
        """
    )
    # What was stored since has no vector there: its documents are to be uploaded again.
    op.execute("DELETE FROM documents WHERE id IN (SELECT document_id FROM chunks "
               "WHERE embedding IS NULL)")  # fmt: skip
    op.execute(
        "ALTER TABLE chunks ALTER COLUMN embedding SET NOT NULL, "
        "ALTER COLUMN embedding_model SET NOT NULL"
    )
    op.execute("DROP TABLE embedding_indexes")
