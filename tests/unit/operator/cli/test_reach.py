"""What a refusal of the cluster means to a person, and how a command then ends."""

from __future__ import annotations

from typing import Any, cast

import httpx2
import pytest
from metis_operator.cli.exits import Exit
from metis_operator.cli.reach import Session, explained
from metis_operator.errors import ClusterError

SESSION = Session(cast("Any", None), cast("Any", None), "ns", "https://here, context kind")


def refusal(code: int, text: str = "", kind: str = "application/json") -> ClusterError:
    error = ClusterError(f"Cannot list metisrags: {text or code}", code=code)
    response = httpx2.Response(code, text=text, headers={"content-type": kind})
    error.__cause__ = httpx2.HTTPStatusError(
        "x", request=httpx2.Request("GET", "http://here"), response=response
    )
    return error


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (ClusterError("no answer"), Exit.UNREACHABLE, ["No cluster answers at https://here"]),
        (
            refusal(500, "dial tcp 1.2.3.4:6443: connect: connection refused", "text/plain"),
            Exit.UNREACHABLE,
            ["connection refused", "--context"],
        ),
        (refusal(500, "etcd is away"), Exit.FAILED, ["etcd is away"]),
        (refusal(401), Exit.FORBIDDEN, ["does not know you", "Log in again"]),
        (refusal(403, "User u cannot"), Exit.FORBIDDEN, ["User u cannot.", "administrator"]),
        (refusal(429), Exit.UNREACHABLE, ["busy", "Try again"]),
        (refusal(503), Exit.UNREACHABLE, ["busy"]),
        (refusal(422, "spec.app.replicas: x"), Exit.FAILED, ["spec.app.replicas"]),
    ],
)
def test_each_refusal_has_its_words_and_its_end(
    error: ClusterError, exit_code: Exit, words: list[str]
) -> None:
    told = explained(error, SESSION)
    assert told.exit_code == exit_code
    for word in words:
        assert word in str(told)
    assert "\n" not in str(told)
