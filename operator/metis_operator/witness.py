"""What pods say of the credentials that they check and use, asked of each by its own address."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx2

from .core import names
from .core.manifests import certificate_secret
from .core.objects import Object, labels_of, meta_of
from .core.rotation import Pod

_TIMEOUT = httpx2.Timeout(3.0, connect=1.0)
_PARALLEL = 16
# Authorities whose clients are kept.
_AUTHORITIES = 16
Read = Callable[[str, str], Awaitable[Object | None]]
_PORTS = {names.MEM0: 8050, names.APP: 8000}
_STATUS = "/status"
_APP_KEY = "/api/status/memory-key"
_APP_INDEX = "/api/status/embedding"
_APP_DATABASE = "/api/status/database"


class Witnesses:
    """Asks pods. The Mem0 keys open all of their status routes; none is ever logged.

    ``read`` gives a Secret by namespace and name: a pod that serves with a certificate is trusted
    with a key when the authority beside that certificate vouches for it.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        self._trusting: OrderedDict[str, httpx2.AsyncClient] = OrderedDict()
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._http, *self._trusting.values()):
            await client.aclose()

    async def checkers(
        self, pods: Sequence[Object], keys: Sequence[str], revoked: str | None
    ) -> list[Pod]:
        """Which keys each pod of the memory server accepts; tried with ``revoked`` where given."""
        return list(await asyncio.gather(*(self._checker(p, keys, revoked) for p in pods)))

    async def key_users(
        self, pods: Sequence[Object], keys: Sequence[str], revoked: str | None
    ) -> list[Pod]:
        """Which key each pod of the app uses; tried with ``revoked`` where given."""
        return list(await asyncio.gather(*(self._key_user(p, keys, revoked) for p in pods)))

    async def database_users(self, pods: Sequence[Object], keys: Sequence[str]) -> list[Pod]:
        """Which login each pod, of the app or the memory server, uses."""
        return list(await asyncio.gather(*(self._database_user(p, keys) for p in pods)))

    async def index(self, pod: Object) -> Mapping[str, Any] | None:
        """How the index of the documents stands, as a pod of the app says; None when it does not.

        It is open to everybody, so no key is sent.
        """
        code, body = await self._ask(pod, _APP_INDEX, [""])
        return body if code == 200 else None

    async def memories(self, pod: Object, keys: Sequence[str]) -> Mapping[str, Any] | None:
        """How the index of the memories stands, in the words of :meth:`index`."""
        code, body = await self._ask(pod, _STATUS, keys)
        found = body.get("embeddings") if code == 200 else None
        return found if isinstance(found, dict) else None

    async def _checker(self, pod: Object, keys: Sequence[str], revoked: str | None) -> Pod:
        name = meta_of(pod)["name"]
        code, body = await self._ask(pod, _STATUS, keys)
        if code != 200:
            return Pod(name, trouble=_trouble(code, body))
        accepts = frozenset(str(f) for f in body.get("accepted_keys") or ())
        refuses = await self._refuses(pod, _STATUS, keys, revoked)
        idle = {str(f): float(s) for f, s in (body.get("key_idle_seconds") or {}).items()}
        return Pod(name, accepts=accepts, idle=idle, refuses_revoked=refuses)

    async def _refuses(
        self, pod: Object, path: str, keys: Sequence[str], revoked: str | None
    ) -> bool:
        """Whether ``revoked`` opens nothing, while the current key, the first one, does."""
        if revoked is None:
            return False
        shut, _ = await self._ask(pod, path, [revoked])
        opened, _ = await self._ask(pod, path, keys[:1])
        return shut == 401 and opened == 200

    async def _key_user(self, pod: Object, keys: Sequence[str], revoked: str | None) -> Pod:
        name = meta_of(pod)["name"]
        code, body = await self._ask(pod, _APP_KEY, keys)
        if code == 404 and (body.get("error") or {}).get("code") == "no_memory_key":
            return Pod(name, exempt=True)
        if code != 200:
            return Pod(name, trouble=_trouble(code, body))
        refuses = await self._refuses(pod, _APP_KEY, keys, revoked)
        return Pod(name, uses=str(body.get("fingerprint")), refuses_revoked=refuses)

    async def _database_user(self, pod: Object, keys: Sequence[str]) -> Pod:
        name = meta_of(pod)["name"]
        of_app = _component(pod) == names.APP
        code, body = await self._ask(pod, _APP_DATABASE if of_app else _STATUS, keys)
        if code != 200:
            return Pod(name, trouble=_trouble(code, body))
        login = body if of_app else body.get("database") or {}
        former = int(login.get("former_connections") or 0)
        return Pod(name, uses=str(login.get("fingerprint")), former=former)

    async def _ask(
        self, pod: Object, path: str, keys: Sequence[str]
    ) -> tuple[int, Mapping[str, Any]]:
        """Status and body of the first answer that is no 401; 0 when nobody answered."""
        client, scheme, extensions = self._http, "http", {}
        if _speaks_tls(pod):
            trusting = await self._trusting_client(pod)
            if trusting is None:
                return 0, {}
            client = trusting
            # It is asked by its address, and has to prove the name of its Service.
            scheme, extensions = "https", {"sni_hostname": _service(pod)}
        url = f"{scheme}://{_address(pod)}{path}"
        code, body = 401, {}
        for key in keys:
            try:
                async with self._slots:
                    answer = await client.get(
                        url, headers={"X-API-Key": key} if key else {}, extensions=extensions
                    )
            except (httpx2.HTTPError, OSError):
                return 0, {}
            try:
                found = answer.json()
            except ValueError:
                found = {}
            code, body = answer.status_code, found if isinstance(found, dict) else {}
            if code != 401:
                break
        return code, body

    async def _trusting_client(self, pod: Object) -> httpx2.AsyncClient | None:
        """A client that trusts the authority of the pod's certificate; None when it has none."""
        secret = await self._read(meta_of(pod)["namespace"], certificate_secret(pod))
        encoded = ((secret or {}).get("data") or {}).get("ca.crt")
        if not encoded:
            return None
        if encoded not in self._trusting:
            try:
                pem = base64.b64decode(encoded).decode()
                context = ssl.create_default_context(cadata=pem)
            except (ValueError, ssl.SSLError):
                return None
            # A connection proves its name when it is made: none is kept for another pod's.
            self._trusting[encoded] = httpx2.AsyncClient(
                timeout=_TIMEOUT,
                trust_env=False,
                verify=context,
                limits=httpx2.Limits(max_keepalive_connections=0),
            )
            if len(self._trusting) > _AUTHORITIES:
                _, oldest = self._trusting.popitem(last=False)
                await oldest.aclose()
        self._trusting.move_to_end(encoded)
        return self._trusting[encoded]


def counts(pod: Mapping[str, Any]) -> bool:
    """Whether a pod runs, or may: what has no address uses nothing, what has ended neither."""
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")


def mounts(pod: Mapping[str, Any], secret: str) -> bool:
    """Whether a pod mounts the Secret of that name, whole or in part."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        projected = [(s.get("secret") or {}).get("name") for s in sources]
        if secret in ((volume.get("secret") or {}).get("secretName"), *projected):
            return True
    return False


def _speaks_tls(pod: Mapping[str, Any]) -> bool:
    """Whether the pod serves HTTPS: that is what its kubelet asks in."""
    for container in (pod.get("spec") or {}).get("containers") or ():
        probe = (container.get("readinessProbe") or {}).get("httpGet") or {}
        if probe.get("scheme") == "HTTPS":
            return True
    return False


def _service(pod: Mapping[str, Any]) -> str:
    return f"{labels_of(pod).get(names.LABEL_INSTANCE, '')}-{_component(pod)}"


def _component(pod: Mapping[str, Any]) -> str:
    return labels_of(pod).get(names.LABEL_COMPONENT, "")


def _address(pod: Mapping[str, Any]) -> str:
    host = str((pod.get("status") or {}).get("podIP"))
    host = f"[{host}]" if ":" in host else host
    containers = (pod.get("spec") or {}).get("containers") or ()
    ports = [p for c in containers for p in c.get("ports") or () if p.get("name") == "http"]
    port = ports[0]["containerPort"] if ports else _PORTS[_component(pod)]
    return f"{host}:{port}"


def _trouble(code: int, body: Mapping[str, Any]) -> str:
    if code == 0:
        return "does not answer"
    if code == 401:
        return "refuses every key"
    said = str((body.get("error") or {}).get("code") or "")
    return f"answers {code} {said}".rstrip()
