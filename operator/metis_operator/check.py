"""A check of a running instance from the outside: ingest, retrieve, cite, remember, recall.

It speaks to the app as any user does, under a user of its own, and takes away what it made, also
what a check that was killed left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx2

from .core import check as core
from .core.check import CheckFailedError

Say = Callable[[str], None]

_PATIENCE = httpx2.Timeout(30.0, read=600.0)
_BETWEEN = 0.5


def run(url: str, key: str | None, mark: str, *, limit: float, say: Say) -> None:
    """Check the app at ``url``, with the bearer ``key`` where it asks for one.

    ``mark`` tells this check from others. ``limit`` is how many seconds each thing that is waited
    for may take: the app's readiness, the memory server's word.

    Raises:
        CheckFailedError: something does not work; the message names it.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(base_url=url, headers=headers, timeout=_PATIENCE, trust_env=False) as http:
        _Check(_App(http), mark, limit, say).run()


class _App:
    """The app's interface, with errors that say what was asked."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def call(self, what: str, method: str, path: str, **body: Any) -> dict[str, Any]:
        """The answer's JSON, {} where there is none."""
        try:
            response = self._http.request(method, path, **body)
        except httpx2.HTTPError as error:
            said = str(error) or type(error).__name__
            raise CheckFailedError(f"{what}: the app cannot be reached ({said})") from error
        if response.is_error:
            raise CheckFailedError(
                f"{what}: the app answered {response.status_code}: {_said(response)}"
            )
        found: dict[str, Any] = response.json() if response.content else {}
        return found

    def missing(self) -> str:
        """What the app waits for; "" when it is ready."""
        try:
            response = self._http.get("/api/ready")
            return (
                ""
                if response.is_success
                else str(response.json().get("missing") or "it is not ready")
            )
        except (httpx2.HTTPError, ValueError, AttributeError) as error:
            return f"it does not answer ({str(error) or type(error).__name__})"


def _said(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "it gave no reason"


class _Check:
    def __init__(self, app: _App, mark: str, limit: float, say: Say) -> None:
        self._app, self._mark, self._limit, self._say = app, mark, limit, say
        self._own = False
        self._left: list[str] = []

    def run(self) -> None:
        self._wait(self._app.missing, "ready: the app waits for")
        user = self._app.call("sign in", "GET", "/api/me")["user_id"]
        self._own = user == core.USER
        self._say(f"ready: the app knows us as {user}")
        if self._own:
            self._sweep()
        else:
            self._say(
                f"remember, recall: not checked, as what {user} said could not be told from it "
                f"afterwards; give a user named {core.USER} a key for that"
            )
        with ExitStack() as undo:
            self._ask(undo, self._ingest(undo))
        if self._left:
            raise CheckFailedError("; ".join(self._left))
        if self._own:
            self._check_forgotten()
        self._say("clean up: what was made is gone")

    def _undo(self, undo: ExitStack, path: str) -> None:
        """Delete ``path`` in the end; a failure of that must not hide another one."""

        def delete() -> None:
            try:
                self._app.call("clean up", "DELETE", path)
            except CheckFailedError as error:
                self._left.append(str(error))

        undo.callback(delete)

    def _ingest(self, undo: ExitStack) -> str:
        name, text = core.document(self._mark)
        files = {"files": (name, text.encode())}
        body = self._app.call("ingest", "POST", "/api/documents", files=files)
        document = str(body["documents"][0]["id"])
        self._undo(undo, f"/api/documents/{document}")
        core.judge_upload(body)
        self._say("ingest: a document is indexed")
        return document

    def _ask(self, undo: ExitStack, document: str) -> None:
        remembers = self._own and self._switched_on()
        if remembers:
            self._undo(undo, "/api/memory")
            wishes = {core.PREFERENCE: self._mark}
            self._app.call("remember", "PUT", "/api/memory/preferences", json=wishes)
        answer = self._question(undo, core.first_question(self._mark))
        core.judge_sources(answer, document, self._mark)
        self._say("retrieve: the passage that answers is among the sources")
        self._say(f"cite: {core.judge_citations(answer, document)}")
        if not remembers:
            return
        self._wait(self._waiting, "remember: the memory server has not taken")
        self._say("remember: the memory server has what was said")
        again = self._question(undo, core.SECOND_QUESTION)
        core.judge_memory(again["memory"], self._mark)
        self._say("recall: it is known in another conversation")

    def _question(self, undo: ExitStack, message: str) -> dict[str, Any]:
        answer = self._app.call("answer", "POST", "/api/chat/query", json={"message": message})
        self._undo(undo, f"/api/chat/conversations/{answer['conversation_id']}")
        return answer

    def _switched_on(self) -> bool:
        state = self._app.call("remember", "GET", "/api/memory/stats")["status"]
        if state == "off":
            self._say("remember: long-term memory is switched off (app.useMem0): not checked")
        return bool(state != "off")

    def _waiting(self) -> str:
        stats = self._app.call("remember", "GET", "/api/memory/stats")
        return f"{stats['waiting']} notes" if stats["waiting"] else ""

    def _sweep(self) -> None:
        """Take away what a check that was killed left behind."""
        known = self._app.call("begin", "GET", "/api/documents", params={"limit": 10_000})
        for one in known["documents"]:
            if one["uploaded_by"] == core.USER and one["name"].startswith(core.PREFIX):
                self._app.call("begin", "DELETE", f"/api/documents/{one['id']}")
        for one in self._app.call("begin", "GET", "/api/chat/conversations")["conversations"]:
            self._app.call("begin", "DELETE", f"/api/chat/conversations/{one['id']}")

    def _check_forgotten(self) -> None:
        if self._app.call("clean up", "GET", "/api/memory/stats")["status"] == "off":
            return
        self._wait(self._waiting, "clean up: the memory server has not taken")
        core.judge_forgotten(self._app.call("clean up", "GET", "/api/memory"))

    def _wait(self, lacking: Callable[[], str], what: str) -> None:
        """Wait until nothing is lacking."""
        end = time.monotonic() + self._limit
        while said := lacking():
            if time.monotonic() > end:
                raise CheckFailedError(f"{what} {said}, for {self._limit:.0f} s now")
            time.sleep(_BETWEEN)
