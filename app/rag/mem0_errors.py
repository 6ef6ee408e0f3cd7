"""What can go wrong between the app and the Mem0 server: a branch of the app's errors.

::

    AppError
    └── Mem0Error
        ├── Mem0UnreachableError    nobody answered: refused, timed out, broke off
        │   └── Mem0DownError       not even asked: nobody answered a moment ago
        ├── Mem0UnauthorizedError   no key, or every key we hold was refused (401)
        ├── Mem0NotFoundError       no such agent or human (404)
        ├── Mem0RefusedError        the request is wrong and will stay so (other 4xx)
        └── Mem0UnavailableError    the server answered that it cannot now (429, 5xx)

Messages name the operation and the server's error code. They never hold what a user said, nor a
key, so that they can be logged as they are.
"""

from __future__ import annotations

from app.errors import AppError


class Mem0Error(AppError):
    """An operation on the Mem0 server did not succeed."""

    status = 503
    code = "memory_unavailable"
    answered: int | None = None
    """The HTTP status that the server answered with, where it did."""


class Mem0UnreachableError(Mem0Error):
    """No answer came; a write may or may not have been done."""


class Mem0DownError(Mem0UnreachableError):
    """Nobody answered a moment ago, so the server was not asked; nothing was done."""


class Mem0UnauthorizedError(Mem0Error):
    """No key at hand, or none of those at hand is live."""


class Mem0NotFoundError(Mem0Error):
    """The agent or the human does not exist; nothing was created."""


class Mem0RefusedError(Mem0Error):
    """The server refuses this request for good; repeating it does not help."""


class Mem0UnavailableError(Mem0Error):
    """The server cannot do it now; ``retry_after`` is its advice in seconds, if it gave one."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
