"""One tree of errors. Each message says what happened, to what, and what to do."""

from __future__ import annotations


class MetisOperatorError(Exception):
    """Anything that this package raises on purpose."""


class SettingsError(MetisOperatorError):
    """The operator was started with a setting that it cannot work with."""


class RenderError(MetisOperatorError):
    """The chart refuses the values, or Helm could not be run.

    Permanent for these values: trying again changes nothing until the spec, the operator's
    defaults or the chart change.
    """


class ManifestError(MetisOperatorError):
    """The chart renders something that the operator does not manage."""


class LeadershipLostError(MetisOperatorError):
    """This process may no longer write: another operator may be at work by now."""


class ClusterError(MetisOperatorError):
    """The API server could not be asked or did not do what it was asked.

    ``code`` is the HTTP status, or 0 where there was no answer. ``permanent`` is true when the
    same request would be refused again. ``said`` are the API server's own words.
    """

    def __init__(self, message: str, *, code: int = 0, reason: str = "", said: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.said = said or message

    @property
    def permanent(self) -> bool:
        """Whether only a change of the request, or of someone's permissions, can help."""
        return self.code in (400, 403, 405, 413, 415, 422)


class NotFoundError(ClusterError):
    """The object, or its kind, is not there."""


class ConflictError(ClusterError):
    """Someone else was faster: look again, then decide again."""
