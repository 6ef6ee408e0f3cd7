"""Small things that several stores need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import quote

from mem0_server.database import BrokenReferenceError
from mem0_server.errors import AgentNotFoundError, HumanNotFoundError


def count(tag: str) -> int:
    """The number of rows in a command's tag: ``DELETE 3`` is 3."""
    return int(tag.rsplit(" ", 1)[-1])


def identifier(name: str) -> str:
    """``name`` as SQL takes it for a table or an index."""
    return '"' + name.replace('"', '""') + '"'


def quoted(user_id: str) -> str:
    """An id as the search index knows it: mem0ai refuses blanks and takes ``*`` for a wildcard."""
    return quote(user_id, safe="")


@contextlib.contextmanager
def known(agent_id: str | None, human_id: str | None) -> Iterator[None]:
    """Turn a broken reference to an agent or a human into the error that names it.

    :raises AgentNotFoundError: the agent does not exist.
    :raises HumanNotFoundError: the human does not exist.
    """
    try:
        yield
    except BrokenReferenceError as error:
        constraint = error.constraint_name or ""
        if "agent" in constraint and agent_id is not None:
            raise AgentNotFoundError(agent_id) from None
        if "human" in constraint and human_id is not None:
            raise HumanNotFoundError(human_id) from None
        raise
