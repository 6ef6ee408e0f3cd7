"""What is known in the course of one reconcile, and what is remembered until the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import events
from .core import names
from .core.compare import Difference
from .core.conditions import Stall
from .core.gpu import Decision, Wish
from .core.objects import Key, Object, Owner, annotations_of, meta_of
from .observe import Instance
from .rotation_report import Report
from .volumes import Refusals

# Calls of one reconcile that are made at the same time.
_PARALLEL = 8


@dataclass
class Memory:
    """What is remembered of one MetisRAG between two reconciles; losing it costs a few calls."""

    uid: str
    tolerated: dict[Key, tuple[str, frozenset[Difference]]] = field(default_factory=dict)
    dropped_fields: Mapping[str, Any] = field(default_factory=dict)
    repairs: dict[Key, list[float]] = field(default_factory=dict)
    told: set[events.Topic] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)
    # Objects of names that we want, and that are not ours.
    in_the_way: set[Key] = field(default_factory=set)
    # When the progress of models was last told (monotonic seconds).
    models_told: float = float("-inf")
    # The generation that is on its way to Ready, and when it was first seen.
    changed: tuple[int, float] | None = None


@dataclass
class Run:
    """What is known in the course of one reconcile."""

    instance: Instance
    resource: Object
    owner: Owner
    memory: Memory
    desired: dict[Key, Object] = field(default_factory=dict)
    foreign: dict[Key, Object] = field(default_factory=dict)
    stalls: list[Stall] = field(default_factory=list)
    acted: int = 0
    made: int = 0  # of these, objects that were missing
    rotation: Sequence[Report] | None = None
    gpu: Decision | None = None  # None until it is made
    gpu_turns: bool = False
    wish: Wish | None = None  # for GPUs, where the CPU may take their place
    pulls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the pod that pulls a model tells of it."""
    embedding: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = False  # for its turn in an upgrade of the operator

    @property
    def before(self) -> Mapping[str, Any]:
        """The status as it was last written."""
        return self.resource.get("status") or {}

    @property
    def generation(self) -> int:
        """The generation of the spec at hand."""
        return int(meta_of(self.resource).get("generation", 0))

    @property
    def is_seen(self) -> bool:
        """Whether the spec is the one that was carried out before."""
        return self.before.get("observedGeneration") == self.generation

    @property
    def paused(self) -> bool:
        """Whether changes are to be told only, not carried out."""
        return annotations_of(self.resource).get(names.ANNOTATION_PAUSED) == "true"


async def gather(awaitables: Iterable[Any]) -> list[Any]:
    """All results in order, a few calls at a time; the first failure is raised, none is lost."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(awaitable: Any) -> Any:
        async with slots:
            return await awaitable

    results = await asyncio.gather(*(one(a) for a in awaitables), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
