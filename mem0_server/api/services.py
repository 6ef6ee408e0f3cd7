"""What the routes work with; made in the lifespan, one of each a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from mem0_server.database import Database
from mem0_server.index.indexer import Indexer
from mem0_server.index.inference import Inference
from mem0_server.index.library import Library
from mem0_server.keys import KeyRing
from mem0_server.metrics import Metrics
from mem0_server.settings import Settings
from mem0_server.store.archival import Archival
from mem0_server.store.collections import Collections
from mem0_server.store.entities import Entities
from mem0_server.store.history import History
from mem0_server.store.infer import InferJobs
from mem0_server.store.jobs import Jobs
from mem0_server.store.mem0 import Memories
from mem0_server.store.people import People
from mem0_server.store.recall import Recall

# How often the files with the database credentials are looked at, beside each new connection.
LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Services:
    """The parts of one running server."""

    settings: Settings
    metrics: Metrics
    keys: KeyRing
    database: Database
    people: People
    recall: Recall
    archival: Archival
    memories: Memories
    history: History
    entities: Entities
    jobs: Jobs
    collections: Collections
    library: Library
    indexer: Indexer
    inference: Inference
    draining: bool = False
    asked: float = 0.0
    """When, of ``time.monotonic``, a request last came while this was draining."""

    async def follow_login(self) -> None:
        """Go over to the database credentials of this moment."""
        await self.database.follow()
        self.library.follow(self.database.login)

    async def watch_login(self) -> None:
        """Follow the database credentials until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.follow_login()


def build(settings: Settings, keys: KeyRing) -> Services:
    """Put the parts together; nothing is opened yet."""
    metrics = Metrics()
    database = Database(settings, metrics)
    jobs, collections = Jobs(database), Collections(database)
    library = Library(settings, metrics)
    indexer = Indexer(settings, metrics, jobs, collections, library)
    recall, memories = Recall(database), Memories(database)
    return Services(
        settings=settings,
        metrics=metrics,
        keys=keys,
        database=database,
        people=People(database),
        recall=recall,
        archival=Archival(database),
        memories=memories,
        history=History(database),
        entities=Entities(database),
        jobs=jobs,
        collections=collections,
        library=library,
        indexer=indexer,
        inference=Inference(
            settings, metrics, library, indexer, memories, recall, InferJobs(database)
        ),
    )


def services_of(request: Request) -> Services:
    """The parts, for a route that every chat needs: a dependency costs each request."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    return services_of(request)


Parts = Annotated[Services, Depends(_services)]
