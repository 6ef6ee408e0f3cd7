"""The plain HTTP client of the Mem0 server: no cache, typed errors.

It may touch: the network (one pooled ``httpx.Client``) and, through its key source, the mounted
Secret. It is thread-safe and never raises anything but :mod:`app.rag.mem0_errors`.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import httpx

from app.rag.mem0_breaker import Breaker
from app.rag.mem0_errors import (
    Mem0Error,
    Mem0NotFoundError,
    Mem0RefusedError,
    Mem0UnauthorizedError,
    Mem0UnavailableError,
    Mem0UnreachableError,
)
from app.rag.mem0_keys import FixedKey, KeySource, fingerprint, recognises
from app.rag.mem0_metrics import REQUEST_SECONDS, RETRIES
from app.rag.unblocked import refuse_to_wait

Json = dict[str, Any]

CONNECT_TIMEOUT = 0.5
READ_TIMEOUT = 5.0
SEARCH_TIMEOUT = 15.0  # a search embeds its query first, and Ollama may be loading the model
REFUSED = frozenset({400, 409, 410, 413, 414, 415, 422, 431})
"""Answers that speak of the request itself, which no repetition cures."""
MAX_CONNECTIONS = 20
ATTEMPTS = 3
"""Exchanges that one call may take; what breaks is repeated after a short random pause."""
RETRY_PAUSE = 0.05
"""Seconds: the longest pause before the first repeat; before the second, twice that."""
RETRY_WITHIN = 1.0
"""Seconds after which nothing is repeated any more: the caller has waited enough."""
BUSY = frozenset({429, 502, 503, 504})
"""Answers worth repeating soon, unless the server says itself when to come back."""


class Mem0Client:
    """The Mem0 server's operations; ids may hold any character.

    Every method raises a :class:`Mem0Error` of some kind; :class:`Mem0NotFoundError` only where
    it says so.
    """

    def __init__(
        self,
        api_key: str | None = None,
        endpoint: str = "http://localhost:8050",
        *,
        keys: KeySource | None = None,
        timeout: float = READ_TIMEOUT,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        """Talk to ``endpoint`` with ``api_key``, or with what ``keys`` holds where given.

        ``timeout``: seconds to wait for an answer. ``trusted``: whose certificates will do where
        the endpoint is https; those of the system's authorities without it.
        """
        self.endpoint = endpoint.rstrip("/")
        self.keys = keys if keys is not None else FixedKey(api_key)
        self._failing = False
        self._verify = trusted or True
        self.breaker = Breaker(self._is_back)
        self._http = httpx.Client(
            base_url=self.endpoint,
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT, pool=CONNECT_TIMEOUT),
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS
            ),
            verify=self._verify,
            trust_env=False,  # inside the cluster; a proxy meant for the outside must not see keys
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self.breaker.close()
        self._http.close()

    @property
    def failing(self) -> bool:
        """True when the last operation got no answer, a 401 or a 5xx, or none may be tried."""
        return self._failing or self.breaker.is_open

    @property
    def key_fingerprint(self) -> str | None:
        """Fingerprint of the key tried first, or ``None`` without a key."""
        keys = self.keys.held()
        return fingerprint(keys[0]) if keys else None

    def recognises(self, key: str) -> bool:
        """True when ``key`` is one that this client holds."""
        return recognises(self.keys, key)

    def get_agent(self, agent_id: str) -> Json | None:
        """The agent, or ``None`` when there is none of that id."""
        return self._find("get_agent", _path("agents", agent_id))

    def create_agent(self, agent_id: str, name: str, persona: str) -> Json:
        """Make the agent, or change it where it exists."""
        body = {"name": name, "persona": persona}
        return self._call("create_agent", "PUT", _path("agents", agent_id), json=body)

    def get_human(self, human_id: str) -> Json | None:
        """The human, or ``None`` when there is none of that id."""
        return self._find("get_human", _path("humans", human_id))

    def create_human(self, human_id: str, name: str) -> Json:
        """Make the human, or change the name where it exists."""
        path = _path("humans", human_id)
        return self._call("create_human", "PUT", path, json={"name": name})

    def delete_human(self, human_id: str) -> Json:
        """Delete all that is held about the human and return the counts.

        :raises Mem0NotFoundError: there is none of that id.
        """
        return self._call("delete_human", "DELETE", _path("humans", human_id))

    def append_message(
        self,
        agent_id: str,
        human_id: str,
        message: Mapping[str, str],
        idempotency_key: str | None = None,
    ) -> Json:
        """Append ``{role, content}`` to the conversation and return the stored row.

        The same ``idempotency_key`` again appends nothing and returns the row that is there; one
        is made up when none is given, so that a repeat inside this call is safe.
        :raises Mem0NotFoundError: agent or human does not exist; nothing is created.
        """
        return self._call(
            "append_message",
            "POST",
            _path("agents", agent_id, "humans", human_id, "recall"),
            json={"role": message["role"], "content": message["content"]},
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
        )

    def get_recall_memory(self, agent_id: str, human_id: str, limit: int = 10) -> list[Json]:
        """The newest ``limit`` messages, oldest first.

        :raises Mem0NotFoundError: agent or human does not exist.
        """
        path = _path("agents", agent_id, "humans", human_id, "recall")
        answer = self._call("get_recall_memory", "GET", path, params={"limit": limit})
        return cast(list[Json], answer["messages"])

    def create_archival_memory(
        self,
        agent_id: str,
        human_id: str,
        data: Json,
        kind: str,
        replace: bool = False,
        idempotency_key: str | None = None,
    ) -> Json:
        """Store ``data`` (any JSON object) as a record of ``kind`` and return it.

        ``replace`` removes the earlier records of that kind in the same step.
        ``idempotency_key`` is as for :meth:`append_message`.
        :raises Mem0NotFoundError: agent or human does not exist; nothing is created.
        """
        return self._call(
            "create_archival_memory",
            "POST",
            _path("agents", agent_id, "humans", human_id, "archival"),
            json={"kind": kind, "data": data, "replace": replace},
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
        )

    def get_archival_memory(
        self, agent_id: str, human_id: str, kind: str, limit: int = 10
    ) -> list[Json]:
        """The newest ``limit`` records of ``kind``, newest first.

        :raises Mem0NotFoundError: agent or human does not exist.
        """
        path = _path("agents", agent_id, "humans", human_id, "archival")
        params = {"kind": kind, "limit": limit}
        answer = self._call("get_archival_memory", "GET", path, params=params)
        return cast(list[Json], answer["records"])

    def search_archival_memory(
        self, agent_id: str, human_id: str, query: str | None, kind: str, limit: int = 10
    ) -> list[Json]:
        """The ``limit`` records of ``kind`` nearest in meaning to ``query``, with their ``score``.

        ``None`` or a blank query gives the newest.
        :raises Mem0NotFoundError: agent or human does not exist.
        """
        answer = self._call(
            "search_archival_memory",
            "POST",
            _path("agents", agent_id, "humans", human_id, "archival", "search"),
            json={"query": query or None, "kind": kind, "limit": limit},
            timeout=SEARCH_TIMEOUT,
        )
        return cast(list[Json], answer["records"])

    def _find(self, operation: str, path: str) -> Json | None:
        try:
            return self._call(operation, "GET", path)
        except Mem0NotFoundError:
            return None

    def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> Json:
        """One operation, and what its outcome says of the server."""
        self.breaker.check()  # first: to be turned away takes no waiting
        refuse_to_wait()
        if timeout is not None:
            request["timeout"] = httpx.Timeout(timeout, connect=CONNECT_TIMEOUT)
        try:
            answer = self._authorised(operation, method, path, headers or {}, **request)
        except (Mem0NotFoundError, Mem0RefusedError):
            self._well()
            raise
        except Mem0Error as error:
            if timeout is None:  # a search that fails tells of Ollama, not of Mem0
                self._failing = True
                if isinstance(error, Mem0UnavailableError):
                    self.breaker.unwell()
            raise
        self._well()
        return answer

    def _well(self) -> None:
        self._failing = False
        self.breaker.served()

    def _is_back(self) -> bool:
        """Ask whether Mem0 serves again, on a connection of its own: the pool may be clogged."""
        try:
            answer = httpx.get(
                f"{self.endpoint}/ready",
                timeout=CONNECT_TIMEOUT,
                verify=self._verify,
                trust_env=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return False
        if answer.is_success:
            self._failing = False
        return answer.is_success

    def _authorised(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        **request: Any,
    ) -> Json:
        """The exchange with the first key, and after a 401 once more with the other one."""
        keys = self.keys.held()
        if not keys:
            raise Mem0UnauthorizedError(
                f"{operation}: no Mem0 key; set MEM0_API_KEY, or MEM0_API_KEY_DIR to a directory "
                "with a file 'current'"
            )
        for key in keys[:2]:
            sent = {**headers, "X-API-Key": key}
            response = self._send(operation, method, path, headers=sent, **request)
            if response.status_code != 401:
                return _content(operation, response)
        raise Mem0UnauthorizedError(
            f"{operation}: Mem0 refuses the key {fingerprint(keys[0])}"
            + (f" and the other, {fingerprint(keys[1])}" if len(keys) > 1 else "")
            + "; compare with the Secret <instance>-mem0-key"
        )

    def _send(self, operation: str, method: str, path: str, **request: Any) -> httpx.Response:
        """One exchange, repeated when the connection breaks under it or the server is busy.

        That is safe for all we send: reads, PUTs, DELETEs, and POSTs with an idempotency key. Who
        is not there or says nothing is not asked again: that would be another wait.
        """
        begun = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS or time.monotonic() - begun > RETRY_WITHIN
            try:
                with REQUEST_SECONDS.labels(operation).time():
                    response = self._http.request(method, path, **request)
            except httpx.PoolTimeout as error:
                raise Mem0UnavailableError(
                    f"{operation}: all {MAX_CONNECTIONS} connections to Mem0 are in use"
                ) from error
            except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                if last or isinstance(error, httpx.ConnectError):
                    self.breaker.unreachable()
                    raise self._unreachable(operation, error) from error
            except httpx.TimeoutException as error:
                if isinstance(error, httpx.ConnectTimeout) or "timeout" not in request:
                    self.breaker.unreachable()
                raise self._unreachable(operation, error) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise Mem0RefusedError(f"{operation}: {type(error).__name__}: {error}") from error
            else:
                if last or response.status_code not in BUSY or "Retry-After" in response.headers:
                    return response
            RETRIES.labels(operation).inc()
            time.sleep(random.uniform(0, attempt * RETRY_PAUSE))  # noqa: S311 - no secret
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _unreachable(self, operation: str, error: Exception) -> Mem0Error:
        cause = str(error) or type(error).__name__
        return Mem0UnreachableError(f"{operation}: no answer from Mem0 at {self.endpoint}: {cause}")


def _path(*parts: str) -> str:
    """A path of percent-encoded segments: an id with a slash in it stays one segment."""
    if not all(parts):
        raise Mem0RefusedError("an agent or human id is empty")
    # A segment of dots alone would be taken for a step up by whoever normalises the path.
    return "".join("/" + quote(part, safe="").replace(".", "%2E") for part in parts)


def _content(operation: str, response: httpx.Response) -> Json:
    """The JSON of a good answer; the matching error for a bad one."""
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success:
        if not isinstance(body, dict):
            raise Mem0UnavailableError(f"{operation}: Mem0 answered {status} without a JSON object")
        return body
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    said = f"{operation}: Mem0 answered {status} {error.get('code', '')}".rstrip()
    if error.get("field"):
        said += f" (field {error['field']})"
    found: Mem0Error
    if status == 404:
        found = Mem0NotFoundError(said)
    elif status in REFUSED:
        found = Mem0RefusedError(said)
    else:
        wait = response.headers.get("Retry-After", "")
        found = Mem0UnavailableError(said, float(wait) if wait.isdigit() else None)
    found.answered = status
    raise found
