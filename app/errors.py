"""The app's one tree of errors.

A message says what happened, to what, and what to do about it. ``code`` is the stable name for
programs; ``status`` is the HTTP status that the one handler in :mod:`app.api.errors` answers with.

::

    AppError
    ├── ConfigurationError      a setting that cannot work; ends the process at start
    ├── EmbeddingChangeRefusedError  another embedding model, and nobody asked to reindex
    ├── LocalRunError           a part of a local run (``make dev``) cannot start or ended
    ├── BadInputError           the request cannot be served as it is (422)
    │   ├── DocumentError       this file cannot be read (422)
    │   └── TooLargeError       more than a limit allows (413)
    ├── UnauthenticatedError    no valid key (401)
    ├── ForbiddenError          a valid key, but not for this (403)
    ├── NotFoundError           no such thing for this user (404)
    └── UnavailableError        something that the app needs does not answer now (503)
        ├── DatabaseUnavailableError
        ├── ModelServerError    a model server answered with an error, or not at all
        └── ModelMissingError   Ollama does not have the model
"""

from __future__ import annotations


class AppError(Exception):
    """Base of all errors the app raises on purpose."""

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        """``field`` is the part of the request at fault; ``code`` overrides the class's."""
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class ConfigurationError(AppError):
    """A setting is wrong; nothing can start until it is corrected."""

    code = "configuration_error"


class LocalRunError(AppError):
    """Something that a run on one's own machine needs is missing, cannot start, or ended."""

    code = "local_run_error"


class BadInputError(AppError):
    """The request is understood but cannot be served as it is."""

    status = 422
    code = "invalid_input"


class EmbeddingChangeRefusedError(AppError):
    """The settings want another embedding model than the documents are indexed with."""

    code = "embedding_change_refused"


class DocumentError(BadInputError):
    """A file cannot be turned into text."""

    code = "unreadable_document"


class TooLargeError(BadInputError):
    """The request exceeds a limit."""

    status = 413
    code = "too_large"


class UnauthenticatedError(AppError):
    """The caller did not show a valid key."""

    status = 401
    code = "unauthenticated"


class ForbiddenError(AppError):
    """The caller is known but may not do this."""

    status = 403
    code = "forbidden"


class NotFoundError(AppError):
    """There is no such thing, or not for this user."""

    status = 404
    code = "not_found"


class UnavailableError(AppError):
    """Something the app needs does not answer; the same request may work later."""

    status = 503
    code = "unavailable"


class DatabaseUnavailableError(UnavailableError):
    """metis-postgres does not answer."""

    code = "database_unavailable"


class ModelServerError(UnavailableError):
    """A model server does not answer, or answers with an error of its own."""

    code = "model_server_unavailable"


class ModelMissingError(ModelServerError):
    """The model server runs but does not have the model."""

    code = "model_missing"
