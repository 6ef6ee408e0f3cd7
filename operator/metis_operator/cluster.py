"""The API server, as little of it as the operator needs.

Objects go in and come out as plain dicts. Every failure is a ClusterError that says what was
asked for; nothing else of the client library shows outside this module.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import httpx2
from lightkube import ALL_NS, ApiError, AsyncClient, ConfigError
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.generic_resource import (
    GenericGlobalResource,
    GenericNamespacedResource,
    create_global_resource,
    create_namespaced_resource,
)
from lightkube.types import CascadeType, PatchType

from . import metrics
from .core import names
from .core.objects import METISRAG, Key, Kind, Object
from .errors import ClusterError, ConflictError, NotFoundError, SettingsError
from .transport import AiohttpTransport

T = TypeVar("T")

_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
# Each page costs the API server as much again as some 200 objects.
_PAGE = 250
# A version that no object ever has (etcd's first write is its second revision). An apply that
# names it makes what is absent, and conflicts with whatever is there: no look-up before, no gap.
_NEVER = "1"
_READS = frozenset({"get", "list", "ping"})


def load_config() -> SingleConfig:
    """Where the API server is and who we are: the pod's service account, or a kubeconfig.

    Raises:
        SettingsError: there is neither.
    """
    try:
        return cast("SingleConfig", KubeConfig.from_env().get())
    except (ConfigError, OSError) as error:
        raise SettingsError(
            f"No cluster to talk to ({error}): run in a pod, or set KUBECONFIG."
        ) from error


@asynccontextmanager
async def connect(config: SingleConfig | None = None) -> AsyncIterator[Cluster]:
    """A Cluster for as long as the context lasts.

    Raises:
        SettingsError: no cluster is configured.
    """
    config = config or load_config()
    verify = verify_cluster(config.cluster, config.user or User(), config.abs_file)
    client = AsyncClient(
        config=config,
        timeout=_TIMEOUT,
        field_manager=names.FIELD_MANAGER,
        transport=AiohttpTransport(verify),
    )
    try:
        yield Cluster(client)
    finally:
        await client.close()


class Cluster:
    """Calls of the API server. All may raise ClusterError; ``connect`` makes one."""

    def __init__(self, client: AsyncClient, may_write: Callable[[], None] | None = None) -> None:
        self._client = client
        self._may_write = may_write

    def fenced(self, may_write: Callable[[], None]) -> Cluster:
        """The same, but every write first asks ``may_write()``, which raises to forbid it."""
        return Cluster(self._client, may_write)

    async def get(self, key: Key) -> Object | None:
        """The object, or None when it is not there."""
        try:
            found = await self._call(
                "get",
                str(key),
                lambda: self._client.get(
                    _resource(key.kind), key.name, namespace=key.namespace or None
                ),
            )
        except NotFoundError:
            return None
        return _plain(found)

    async def list(
        self, kind: Kind, *, namespace: str | None = None, selector: Mapping[str, str] | None = None
    ) -> tuple[list[Object], str]:
        """All objects of ``kind`` that carry the labels, in one namespace or (None) in all.

        With them comes the resource version of the list: it knows nothing of what came later.

        ``kind`` must be namespaced."""
        return await self.collect(kind, lambda obj: obj, namespace=namespace, selector=selector)

    async def collect(
        self,
        kind: Kind,
        keep: Callable[[Object], T],
        *,
        namespace: str | None = None,
        selector: Mapping[str, str] | None = None,
    ) -> tuple[builtins.list[T], str]:
        """As ``list``, but of each object only what ``keep`` makes of it stays in memory."""

        async def read() -> tuple[builtins.list[T], str]:
            found = self._client.list(
                _resource(kind),
                namespace=namespace or ALL_NS,
                chunk_size=_PAGE,
                labels=dict(selector or {}),
            )
            # A list leaves out what each of its items is.
            what = {"apiVersion": kind.api_version, "kind": kind.kind}
            return [keep(what | _plain(o)) async for o in found], found.resourceVersion

        return await self._call("list", kind.plural, read)

    async def ping(self, namespace: str | None = None) -> None:
        """Ask for something small; raises ClusterError when the server does not answer."""

        async def one() -> None:
            resource = _resource(METISRAG)
            async for _ in self._client.list(resource, namespace=namespace or ALL_NS, chunk_size=1):
                return

        try:
            await self._call("ping", METISRAG.plural, one)
        except NotFoundError:
            return  # The server answers; that it does not know the kind is another matter.

    async def apply(self, key: Key, obj: Object, *, new: bool = False) -> Object:
        """Server-side apply: our fields as in ``obj``, taken over from whoever held them.

        With ``new`` only where nothing of that name is there; ConflictError otherwise.
        """
        if new:
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": _NEVER}}
        applied = await self._call(
            "apply",
            str(key),
            lambda: self._client.patch(
                _resource(key.kind),
                key.name,
                obj,
                namespace=key.namespace or None,
                patch_type=PatchType.APPLY,
                force=True,
            ),
        )
        return _plain(applied)

    async def create(self, key: Key, obj: Object) -> Object:
        """Create ``obj``; ConflictError when something of that name is there."""
        resource = _resource(key.kind)
        created = await self._call(
            "create",
            str(key),
            lambda: self._client.create(resource(obj)),
        )
        return _plain(created)

    async def update(self, key: Key, obj: Object) -> Object:
        """Replace the object by ``obj``, which names the resource version that it replaces."""
        resource = _resource(key.kind)
        updated = await self._call(
            "update",
            str(key),
            lambda: self._client.replace(resource(obj)),
        )
        return _plain(updated)

    async def merge(self, key: Key, patch: Object) -> Object:
        """JSON merge patch; one with ``metadata.resourceVersion`` conflicts with any change."""
        merged = await self._call(
            "patch",
            str(key),
            lambda: self._client.patch(
                _resource(key.kind),
                key.name,
                patch,
                namespace=key.namespace or None,
                patch_type=PatchType.MERGE,
            ),
        )
        return _plain(merged)

    async def merge_status(self, namespace: str, name: str, patch: Object) -> Object:
        """JSON merge patch of a MetisRAG's status; the answer is the whole object."""
        merged = await self._call(
            "status",
            f"{names.KIND}/{name}",
            lambda: self._client.patch(
                _resource(METISRAG).Status,
                name,
                {"status": patch},
                namespace=namespace,
                patch_type=PatchType.MERGE,
            ),
        )
        return _plain(merged)

    async def delete(self, key: Key, uid: str, *, orphan: bool = False) -> None:
        """Delete the object if it is still the one of that ``uid``; gone already is fine.

        With ``orphan`` what it owns stays.
        """
        cascade = CascadeType.ORPHAN if orphan else CascadeType.BACKGROUND
        current = await self.get(key)
        if current is None or current["metadata"].get("uid") != uid:
            return
        try:
            await self._call(
                "delete",
                str(key),
                lambda: self._client.delete(
                    _resource(key.kind),
                    key.name,
                    namespace=key.namespace or None,
                    cascade=cascade,
                ),
            )
        except NotFoundError:
            return

    async def _call(self, verb: str, what: str, request: Callable[[], Awaitable[T]]) -> T:
        if self._may_write is not None and verb not in _READS:
            self._may_write()
        try:
            answer = await request()
        except ApiError as error:
            metrics.API_CALLS.labels(verb, str(error.status.code)).inc()
            raise _translate(verb, what, error) from error
        except httpx2.HTTPStatusError as error:
            code = error.response.status_code
            metrics.API_CALLS.labels(verb, str(code)).inc()
            message = f"Cannot {verb} {what}: the API server answered {code}."
            kind = NotFoundError if code == 404 else ClusterError  # as for an API it does not have
            raise kind(message, code=code) from error
        except (httpx2.HTTPError, OSError) as error:
            metrics.API_CALLS.labels(verb, "0").inc()
            said = str(error) or type(error).__name__
            message = f"Cannot {verb} {what}: the API server does not answer ({said})."
            raise ClusterError(message) from error
        metrics.API_CALLS.labels(verb, "200").inc()
        return answer


def _translate(verb: str, what: str, error: ApiError) -> ClusterError:
    status = error.status
    code, reason = int(status.code or 0), status.reason or ""
    said = str(status.message or reason or code)
    kinds: dict[int, type[ClusterError]] = {404: NotFoundError, 409: ConflictError}
    found = kinds.get(code, ClusterError)
    return found(f"Cannot {verb} {what}: {said}", code=code, reason=reason, said=said)


@functools.cache
def _resource(kind: Kind) -> Any:
    """The client's class for ``kind``, always of plain dicts."""
    make = create_namespaced_resource if kind.namespaced else create_global_resource
    return make(kind.group, kind.version, kind.kind, kind.plural)


def _plain(obj: GenericNamespacedResource | GenericGlobalResource) -> Object:
    return dict(obj)
