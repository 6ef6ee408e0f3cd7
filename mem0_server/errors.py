"""The server's one tree of errors.

A message says what happened, to what, and what to do about it; it never quotes what a user said.
``code`` is the stable name for programs, ``status`` the HTTP status, ``retry_after`` the seconds
after which the same request may work. :mod:`mem0_server.api.errors` turns them into answers.

::

    Mem0ServerError
    ├── SettingsError            a setting that cannot work; ends the process at start
    ├── MigrationError           the database cannot be brought to this version's schema
    ├── UnauthorizedError        401
    │   ├── MissingKeyError
    │   ├── RevokedKeyError
    │   └── UnknownKeyError
    ├── NotFoundError            404
    │   ├── AgentNotFoundError
    │   ├── HumanNotFoundError
    │   └── MemoryNotFoundError
    ├── RequestTimeoutError      408  the body did not arrive in time
    ├── IdempotencyConflictError 409  a key was used before for something else
    ├── BodyTooLargeError        413
    ├── InvalidInputError        422
    └── UnavailableError         503, with Retry-After
        ├── DatabaseUnavailableError
        ├── DrainingError
        ├── OverloadedError
        └── OllamaError
            ├── OllamaUnreachableError
            ├── ModelMissingError
            └── ModelFailedError
"""

from __future__ import annotations


class Mem0ServerError(Exception):
    """Base of all errors that the server raises on purpose."""

    status = 500
    code = "internal_error"
    retry_after: int | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        """``field`` names the part of the request at fault."""
        super().__init__(message)
        self.message = message
        self.field = field


class SettingsError(Mem0ServerError):
    """A setting is missing or wrong; nothing can start until it is corrected."""

    code = "settings_error"


class MigrationError(Mem0ServerError):
    """The database could not be reached or brought to this version's schema."""

    code = "migration_error"


class UnauthorizedError(Mem0ServerError):
    """The caller showed no key that is live. ``reason`` is the label of the metric."""

    status = 401
    code = "unauthorized"
    reason = "unknown"


class MissingKeyError(UnauthorizedError):
    """There was no ``X-API-Key`` header."""

    code = "missing_key"
    reason = "missing"


class UnknownKeyError(UnauthorizedError):
    """The key is not one of the live keys."""

    code = "unknown_key"


class RevokedKeyError(UnauthorizedError):
    """The key was live here until it was taken away."""

    code = "revoked_key"
    reason = "revoked"


class NotFoundError(Mem0ServerError):
    """There is no such thing."""

    status = 404
    code = "not_found"


class AgentNotFoundError(NotFoundError):
    """No agent has that id."""

    code = "agent_not_found"

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"agent {agent_id!r} does not exist; create it with PUT /agents/<id>", field="agent_id"
        )


class HumanNotFoundError(NotFoundError):
    """No human has that id."""

    code = "human_not_found"

    def __init__(self, human_id: str) -> None:
        super().__init__(
            f"human {human_id!r} does not exist; create it with PUT /humans/<id>", field="human_id"
        )


class MemoryNotFoundError(NotFoundError):
    """No memory has that id."""

    code = "memory_not_found"


class RequestTimeoutError(Mem0ServerError):
    """The body of a request did not arrive in time."""

    status = 408
    code = "request_timeout"


class IdempotencyConflictError(Mem0ServerError):
    """An idempotency key was used before with different content; nothing was stored."""

    status = 409
    code = "idempotency_conflict"


class BodyTooLargeError(Mem0ServerError):
    """The body exceeds the cap; it was not read to its end."""

    status = 413
    code = "body_too_large"


class InvalidInputError(Mem0ServerError):
    """The request is well formed but its content cannot be served."""

    status = 422
    code = "invalid_input"


class UnavailableError(Mem0ServerError):
    """Something that the request needs does not answer now; it may work later."""

    status = 503
    code = "unavailable"
    retry_after = 2


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not answer, refuses, or takes too long."""

    code = "database_unavailable"


class DrainingError(UnavailableError):
    """This replica is on its way out; another one answers."""

    code = "draining"


class OverloadedError(UnavailableError):
    """More work of one kind is waiting than the server accepts."""

    code = "overloaded"


class OllamaError(UnavailableError):
    """Ollama answered with an error of its own."""

    code = "ollama_unavailable"
    retry_after = 5


class OllamaUnreachableError(OllamaError):
    """Ollama did not answer at all."""


class ModelFailedError(OllamaError):
    """The model broke down, perhaps over this very text."""

    code = "model_failed"


class ModelMissingError(OllamaError):
    """Ollama runs but does not have the model."""

    code = "model_missing"
    retry_after = 30
