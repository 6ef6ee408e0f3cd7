"""Another embedding model, unasked and asked for, while requests go on: documents and memories."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.load.watch import steady_load

NAMESPACE, NAME = "anew", "other"
WANTED = "another-model"
"""What stands for one, as two that are fast on a processor are not to be had: it is the same under
another name. Vectors of other lengths are a matter of the component tests."""
PIECES = 120
RATE = 5
QUESTION = "How many days of annual leave does an employee have?"
AFTER_KILL = 15
"""Seconds in which requests to a killed pod may fail: until its Service knows. So may those that
were under way."""

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def anew(cluster: Any, umbrella: str, upload: Any, ask: Any) -> Iterator[str]:
    """An instance with two replicas of the app, documents and memories."""
    cluster.namespace(NAMESPACE)
    models = {"embedding": cluster.small["models"]["embedding"]}
    cluster.metisrag(NAMESPACE, NAME, {"app": {"replicas": 2}, "models": models})
    cluster.wait_ready(NAMESPACE, NAME)
    handbook = "\n\n".join(
        f"Rule {n}. " + f"Machine {n} has its own key. " * 30 for n in range(150)
    )
    ollama = ("exec", f"{NAME}-ollama-0", "-n", NAMESPACE, "-c", "ollama", "--", "ollama")
    cluster.kubectl(*ollama, "cp", models["embedding"], WANTED)
    with cluster.app(NAMESPACE, NAME) as client:
        upload(client)
        files = [("files", ("rules.txt", handbook.encode()))]
        (document,) = client.post("/api/documents", files=files).json()["documents"]
        assert document["status"] == "ready", document
        assert document["chunks"] >= PIECES, document
        ask(client, "My favourite city is Lisbon.")
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def change(cluster: Any, **models: Any) -> None:
    patch = json.dumps({"spec": {"models": models}})
    cluster.kubectl("patch", "metisrag", NAME, "-n", NAMESPACE, "--type=merge", "-p", patch)


def embedding(cluster: Any) -> dict[str, Any]:
    found: dict[str, Any] = cluster.status(NAMESPACE, NAME).get("embedding", {})
    return found


def kill_all_apps(cluster: Any) -> None:
    """``kill -9`` of every pod of the app, so that who embeds is among them."""
    label = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=app"
    for pod in cluster.items("pods", "-n", NAMESPACE, "-l", label):
        if pod["status"]["phase"] == "Running":
            cluster.kill(pod)


def tables(cluster: Any) -> list[str]:
    """The tables of vectors in metis-postgres."""
    query = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'vectors\\_%'"
    said = cluster.kubectl(
        "exec", f"{NAME}-metis-postgres-0", "-n", NAMESPACE, "--",
        "psql", "-U", "postgres", "-d", "metis", "-XAtc", query,
    )  # fmt: skip
    return str(said).split()


def test_unasked_it_is_refused_with_the_cure(cluster: Any, anew: str) -> None:
    with pytest.raises(AssertionError, match="set reindex: true beside it"):
        change(cluster, embedding=WANTED)


@pytest.mark.timeout(600, func_only=True)
def test_asked_for_it_goes_on_beside_the_old_index_through_a_kill(
    cluster: Any, anew: str, ask: Any
) -> None:
    former = cluster.small["models"]["embedding"]
    (before,) = tables(cluster)
    asked, killed, percents = 0, 0.0, set()
    with steady_load(cluster, anew, NAME, RATE) as load:
        change(cluster, embedding=WANTED, reindex=True)
        begun = time.time()

        def is_through() -> bool:
            now = embedding(cluster)
            complete = now.get("model", "").startswith(WANTED) and now.get("state") == "Complete"
            return complete and now.get("memories", {}).get("state") == "Complete"

        while not is_through():
            assert time.time() - begun < 400, cluster.status(anew, NAME)
            now = embedding(cluster)
            if now.get("state") == "Reindexing":
                percents.add(now["percent"])
                assert now["model"].startswith(former), "the former index answers till the end"
                if not killed and now["percent"] >= 20:
                    assert (
                        "are embedded anew" in cluster.metis("status", NAME, namespace=anew).stdout
                    )
                    killed = time.time()
                    kill_all_apps(cluster)
            if not killed or time.time() - killed > AFTER_KILL:
                with cluster.app(anew, NAME) as client:
                    sources = ask(client, QUESTION)["sources"]
                assert sources[0]["document_name"] == "leave-policy.md", sources
                asked += 1
            time.sleep(1)
        took = time.time() - begun
        samples = load.samples()
    print(f"embedded anew in {took:.0f} s; seen at {sorted(percents)} %; {asked} questions, "
          f"{len(samples)} other requests answered meanwhile")  # fmt: skip
    assert killed, "it was through before it could be killed"
    unexcused = [s for s in samples if s.failed and not s.sent - AFTER_KILL < killed <= s.ended]
    assert unexcused == []
    cluster.wait_ready(anew, NAME)
    now = embedding(cluster)
    assert not {"done", "percent"} & (now.keys() | now["memories"].keys()), "it is over"
    cluster.wait_for(
        lambda: len(tables(cluster)) == 1, 60, lambda: f"the old index is there: {tables(cluster)}"
    )
    assert tables(cluster) != [before]
    with cluster.app(anew, NAME) as client:
        body = ask(client, "What is my favourite city?")
        assert body["memory"]["status"] == "ok"
        assert client.get("/api/status/embedding").json()["model"].startswith(WANTED)
