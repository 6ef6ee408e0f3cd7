"""Agents and humans."""

from __future__ import annotations

from mem0_server.database import Connection, Database
from mem0_server.errors import AgentNotFoundError, HumanNotFoundError
from mem0_server.models import Agent, Deleted, Human
from mem0_server.store.entities import delete_entities
from mem0_server.store.sql import count

_PUT_AGENT = """
INSERT INTO agents (id, name, persona) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET name = $2, persona = $3, updated_at = now()
RETURNING id, name, persona, created_at, updated_at
"""
_GET_AGENT = "SELECT id, name, persona, created_at, updated_at FROM agents WHERE id = $1"
_PUT_HUMAN = """
INSERT INTO humans (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET name = coalesce($2, humans.name), updated_at = now()
RETURNING id, name, created_at, updated_at
"""
_GET_HUMAN = "SELECT id, name, created_at, updated_at FROM humans WHERE id = $1"
_BOTH = """
SELECT EXISTS (SELECT FROM agents WHERE id = $1) AS agent,
       EXISTS (SELECT FROM humans WHERE id = $2) AS human
"""


class People:
    """Who talks with whom."""

    def __init__(self, database: Database) -> None:
        """Keep agents and humans in ``database``."""
        self._database = database

    async def put_agent(self, agent_id: str, name: str, persona: str) -> Agent:
        """Make the agent, or change it."""
        async with self._database.use("agent_put") as connection:
            row = await connection.fetchrow(_PUT_AGENT, agent_id, name, persona)
        return Agent.model_validate(dict(row or {}))

    async def get_agent(self, agent_id: str) -> Agent:
        """The agent.

        :raises AgentNotFoundError: there is none of that id.
        """
        async with self._database.use("agent_get") as connection:
            row = await connection.fetchrow(_GET_AGENT, agent_id)
        if row is None:
            raise AgentNotFoundError(agent_id)
        return Agent.model_validate(dict(row))

    async def put_human(self, human_id: str, name: str | None) -> Human:
        """Make the human, or change the name; ``None`` leaves a known name as it is."""
        async with self._database.use("human_put") as connection:
            row = await connection.fetchrow(_PUT_HUMAN, human_id, name)
        return Human.model_validate(dict(row or {}))

    async def get_human(self, human_id: str) -> Human:
        """The human.

        :raises HumanNotFoundError: there is none of that id.
        """
        async with self._database.use("human_get") as connection:
            row = await connection.fetchrow(_GET_HUMAN, human_id)
        if row is None:
            raise HumanNotFoundError(human_id)
        return Human.model_validate(dict(row))

    async def delete_human(self, human_id: str) -> Deleted:
        """Delete all that is held about the human, in one transaction.

        The rows of the search index and of the queue go with the records they belong to; only
        the entities that mem0ai keeps in tables of its own are named here.

        :raises HumanNotFoundError: there is none of that id.
        """
        async with self._database.long_transaction("human_delete") as connection:
            # Holds up writers of this human; they then find the human gone.
            found = await connection.fetchval(
                "SELECT id FROM humans WHERE id = $1 FOR UPDATE", human_id
            )
            if found is None:
                raise HumanNotFoundError(human_id)
            await delete_entities(connection, human_id)
            records = await connection.execute("DELETE FROM archival WHERE human_id = $1", human_id)
            messages = await connection.execute("DELETE FROM recall WHERE human_id = $1", human_id)
            await connection.execute("DELETE FROM humans WHERE id = $1", human_id)
        return Deleted(messages=count(messages), records=count(records))


async def require_both(connection: Connection, agent_id: str, human_id: str) -> None:
    """Make sure that agent and human exist.

    :raises AgentNotFoundError: or
    :raises HumanNotFoundError: one of them does not.
    """
    row = await connection.fetchrow(_BOTH, agent_id, human_id)
    if row is None or not row["agent"]:
        raise AgentNotFoundError(agent_id)
    if not row["human"]:
        raise HumanNotFoundError(human_id)
