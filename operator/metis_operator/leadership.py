"""Holding the Lease: only one operator works at a time, however many there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import structlog

from . import metrics
from .cluster import Cluster
from .core import lease as core
from .core.lease import Terms
from .core.objects import Key, Object, meta_of
from .errors import ClusterError, ConflictError, LeadershipLostError

log = structlog.get_logger(__name__)

# How long an end may be held up by giving the Lease back.
_RELEASE = 2.0


class Leadership:
    """One candidate for the Lease ``key``, known there as ``identity``.

    Enter ``held()`` to wait for the Lease and keep it; ``check()`` is to be asked before each
    write, because a process can be stopped for longer than its Lease lasts and not notice.
    """

    def __init__(
        self, cluster: Cluster, key: Key, identity: str, terms: Terms | None = None
    ) -> None:
        self._cluster = cluster
        self._key = key
        self._identity = identity
        self._terms = terms or Terms()
        self._renewed = float("-inf")
        self._lease: Object | None = None
        self.waits_for = ""  # who holds the Lease, as long as that is another one
        self.unanswered = False  # whether the API server did not answer when last asked

    @property
    def is_held(self) -> bool:
        """Whether the Lease is ours, by our own clock."""
        return time.monotonic() < self._renewed + self._terms.deadline

    def check(self) -> None:
        """Raise LeadershipLostError when another operator may be at work by now."""
        if not self.is_held:
            raise LeadershipLostError(
                f"{self._identity} no longer holds the Lease {self._key.namespace}/"
                f"{self._key.name}: it writes nothing any more and starts afresh."
            )

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Wait for the Lease, keep it while the context lasts, and give it back.

        Raises:
            LeadershipLostError: it could not be renewed in time; what ran inside was cancelled.
        """
        await self._acquire()
        metrics.LEADER.set(1)
        body = asyncio.current_task()
        lost = False

        def end(keeper: asyncio.Task[None]) -> None:
            nonlocal lost
            lost = not keeper.cancelled()
            if lost and body is not None:
                body.cancel()

        keeper = asyncio.create_task(self._keep())
        keeper.add_done_callback(end)
        try:
            yield
        except asyncio.CancelledError:
            if not lost or body is None:
                raise
            body.uncancel()
        finally:
            metrics.LEADER.set(0)
            keeper.remove_done_callback(end)
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._release()
        if lost:
            self._renewed = float("-inf")
            self.check()

    async def _acquire(self) -> None:
        seen: tuple[str, float] = ("", 0.0)
        while True:
            now = time.monotonic()
            try:
                lease = await self._cluster.get(self._key)
                self.unanswered = False
                version = "" if lease is None else str(meta_of(lease).get("resourceVersion"))
                if version != seen[0]:
                    seen = (version, now)
                if core.is_free(lease, self._identity, now - seen[1]):
                    await self._write(lease)
                    self.waits_for = ""
                    log.info("leading", identity=self._identity)
                    return
                self._note(core.holder_of(lease or {}))
            except ConflictError:
                pass  # Another one was faster, or renewed after all.
            except ClusterError as error:
                if error.permanent:
                    raise
                if not self.unanswered:
                    log.warning("cannot ask for the lease yet", cause=str(error))
                self.unanswered = True
            await asyncio.sleep(self._terms.interval)

    def _note(self, holder: str) -> None:
        if holder != self.waits_for:
            log.info("standing by", leader=holder)
        self.waits_for = holder

    async def _keep(self) -> None:
        """Renew until that fails for too long; then return."""
        while self.is_held:
            await asyncio.sleep(self._terms.interval)
            left = self._renewed + self._terms.deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await self._renew()
            except ConflictError as error:
                log.warning("the lease was taken by another one", cause=str(error))
                return
            except (ClusterError, TimeoutError) as error:
                log.warning("cannot renew the lease", cause=str(error) or "no answer in time")

    async def _renew(self) -> None:
        try:
            await self._write(self._lease)
        except ConflictError:
            # Perhaps it was our own write, whose answer was lost; or somebody's label.
            lease = await self._cluster.get(self._key)
            if lease is None or core.holder_of(lease) != self._identity:
                raise
            await self._write(lease)

    async def _write(self, lease: Object | None) -> None:
        """Write ourselves as the holder; the time counts from before the request."""
        asked = time.monotonic()
        obj = core.taken(self._key, lease, self._identity, self._terms, _now())
        if lease is None:
            self._lease = await self._cluster.create(self._key, obj)
        else:
            self._lease = await self._cluster.update(self._key, obj)
        self._renewed = asked

    async def _release(self) -> None:
        if self._lease is None or not self.is_held:
            return
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(_RELEASE):
                obj = core.released(self._key, self._lease, _now())
                await self._cluster.update(self._key, obj)
                log.info("lease given back")
        self._renewed = float("-inf")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
