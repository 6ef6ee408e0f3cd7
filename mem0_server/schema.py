"""The version of the schema that this code needs.

Alembic's head; kept here because the server compares versions without loading Alembic. A unit
test holds the two equal. Versions sort as text, and a newer schema still serves older code.
"""

SCHEMA_VERSION = "0003"
