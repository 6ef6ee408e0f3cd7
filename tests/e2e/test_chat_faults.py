"""Three replicas of the app under 10 messages a second while a part of the system is away.

Every acknowledged message is in its conversation and in memory once, in order. The model is
scripted: what is tested is the bookkeeping around it.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import pins
from tests.e2e.load.talk import Talk, helper

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NAMESPACE = "chat-faults"
NAME = "talk"
RATE = 10
CALM = 12
"""Seconds of traffic before and after the fault."""
BUCKET = re.compile(
    r'metis_rag_bookkeeping_seconds_bucket\{le="([^"]+)",stage="(\w+)"\} ([0-9.e+]+)'
)
STAGES = ("total", "ask", "recollect", "answer")
READ_METRICS = (
    "import urllib.request as u;print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
)
REMEMBERED = """
import os, httpx, pathlib
key = pathlib.Path(os.environ["MEM0_API_KEY_DIR"], "current").read_text().strip()
url = os.environ["MEM0_ENDPOINT"] + "/humans/admin/export"
print(httpx.get(url, headers={"X-API-Key": key}, timeout=60, trust_env=False).text)
"""


@pytest.fixture(scope="module")
def talk(cluster: Any) -> Iterator[str]:
    """The stack by Helm alone, with three replicas of the app and a scripted model."""
    cluster.namespace(NAMESPACE)
    small = cluster.small
    stack = {
        **small,
        "app": {**small["app"], "replicas": 3},
        "credentials": {"image": cluster.operator_image},
    }
    cluster.helm(
        "install", NAME, str(ROOT), "-n", NAMESPACE,
        "--set", "stack.enabled=true,operator.enabled=false,instance.create=false",
        "-f", "-", stdin=yaml.safe_dump({"stack": stack}), timeout=270,
    )  # fmt: skip
    cluster.kubectl("scale", "statefulset", f"{NAME}-ollama", "-n", NAMESPACE, "--replicas=0")
    models = [pins.CHAT_MODEL, pins.EMBEDDING_MODEL]
    script = (HERE / "scripted_model.py").read_text()
    command = ["python", "-c", script, "11434", *models]
    cluster.apply(helper(cluster, NAMESPACE, NAME, "model", command))
    patch = [{"op": "replace", "path": "/spec/selector", "value": {"helper": "model"}}]
    cluster.kubectl(
        "patch", "service", f"{NAME}-ollama", "-n", NAMESPACE, "--type=json", "-p",
        json.dumps(patch),
    )  # fmt: skip
    for workload in ("deployment/talk-mem0", "deployment/talk-app"):
        cluster.kubectl("rollout", "status", workload, "-n", NAMESPACE, "--timeout=240s")
    with cluster.app(NAMESPACE, NAME) as client:
        policy = ROOT / "tests" / "data" / "leave-policy.md"
        files = [("files", (policy.name, policy.read_bytes()))]
        assert client.post("/api/documents", files=files).status_code == 201
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def pods(cluster: Any, component: str) -> list[dict[str, Any]]:
    label = f"app.kubernetes.io/component={component}"
    found: list[dict[str, Any]] = cluster.items("pods", "-n", NAMESPACE, "-l", label)
    return found


def kill(cluster: Any, component: str) -> None:
    """``kill -9`` of a pod's main process; returns when it runs again."""
    pod = pods(cluster, component)[0]
    (status,) = pod["status"]["containerStatuses"]
    cluster.kill(pod)

    def ready() -> bool:
        name = pod["metadata"]["name"]
        (now,) = cluster.get("pod", name, "-n", NAMESPACE)["status"]["containerStatuses"]
        return bool(now["restartCount"] > status["restartCount"] and now["ready"])

    cluster.wait_for(ready, 120, lambda: f"{pod['metadata']['name']} is not ready again")


def away(cluster: Any, seconds: float) -> None:
    """Mem0 scaled to zero for so long."""
    for replicas in (0, 1):
        cluster.kubectl(
            "scale", "deployment", f"{NAME}-mem0", "-n", NAMESPACE, f"--replicas={replicas}"
        )
        if replicas == 0:
            time.sleep(seconds)
    cluster.kubectl("rollout", "status", f"deployment/{NAME}-mem0", "-n", NAMESPACE)


def inside(cluster: Any, pod: str, *command: str) -> str:
    found: str = cluster.kubectl("exec", pod, "-n", NAMESPACE, "-c", "app", "--", *command)
    return found


Histograms = dict[tuple[str, int], dict[tuple[str, float], float]]


def bookkeeping(cluster: Any) -> Histograms:
    """For each process of the app, stage and bound: how many requests took at most so long."""
    found: Histograms = {}
    for pod in pods(cluster, "app"):
        (status,) = pod["status"]["containerStatuses"]
        name = pod["metadata"]["name"]
        if status["ready"]:
            text = inside(cluster, name, "python", "-c", READ_METRICS)
            found[name, status["restartCount"]] = {
                (stage, float(bound)): float(count) for bound, stage, count in BUCKET.findall(text)
            }
    return found


def quantiles(before: Histograms, after: Histograms) -> str:
    """p50 and p99 of what came between two looks: the upper bounds of their buckets, in ms."""
    counts: Counter[tuple[str, float]] = Counter()
    for process, now in after.items():
        then = before.get(process, {})
        counts.update({key: int(count - then.get(key, 0)) for key, count in now.items()})
    told = []
    for stage in STAGES:
        bounds = sorted(bound for of, bound in counts if of == stage)
        answers = counts[stage, float("inf")]
        p50, p99 = (
            next((b * 1000 for b in bounds if counts[stage, b] >= share * answers), 0.0)
            for share in (0.5, 0.99)
        )
        told.append(f"{stage} p50 <= {p50:g} p99 <= {p99:g}")
    return f"{', '.join(told)} ({counts['total', float('inf')]} answers)"


def outbox(cluster: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        inside(cluster, f"deploy/{NAME}-app", "metis", "outbox", "list", "-o", "json")
    )
    return found


def whole(cluster: Any, conversation: str) -> list[tuple[str, str]]:
    """All messages of a conversation, by pages, oldest first."""
    pages: list[list[tuple[str, str]]] = []
    cursor = ""
    with cluster.app(NAMESPACE, NAME) as client:
        while True:
            path = f"/api/chat/conversations/{conversation}/messages?limit=200{cursor}"
            page = client.get(path).json()
            pages.insert(0, [(m["role"], m["content"]) for m in page["messages"]])
            if page["next_cursor"] is None:
                return [message for page in pages for message in page]
            cursor = f"&cursor={page['next_cursor']}"


FAULTS = {
    "app-killed": lambda cluster: kill(cluster, "app"),
    "mem0-killed": lambda cluster: kill(cluster, "mem0"),
    "metis-postgres-killed": lambda cluster: kill(cluster, "metis-postgres"),
    "mem0-away-for-a-minute": lambda cluster: away(cluster, 60),
}


@pytest.mark.timeout(400, func_only=True)
@pytest.mark.parametrize(
    "fault",
    [f if f == "app-killed" else pytest.param(f, marks=pytest.mark.full) for f in FAULTS],
)
def test_every_acknowledged_message_is_kept_once_and_in_order(
    cluster: Any, talk: str, fault: str
) -> None:
    seconds = 2 * CALM + (75 if "away" in fault else 25)
    talking = Talk(cluster, NAMESPACE, NAME, fault, seconds=seconds, rate=RATE)
    talking.until_begun(RATE)
    looks = [bookkeeping(cluster)]
    time.sleep(CALM)
    looks.append(bookkeeping(cluster))
    begun = time.time()
    FAULTS[fault](cluster)
    ended = time.time()
    looks.append(bookkeeping(cluster))
    talking.until_ended(seconds + 60)
    looks.append(bookkeeping(cluster))
    for part, (before, after) in zip(("before", "during", "after"), pairwise(looks), strict=True):
        print(f"{fault}: bookkeeping in ms {part} the fault: {quantiles(before, after)}")

    said = talking.said()
    outcomes = Counter(str(outcome) for _, number, outcome, *_ in said if number >= 0)
    waits = sorted(took for *_, sent, took in said if begun <= sent <= ended)
    longest = f"{waits[-1]:.2f} s" if waits else "none"
    print(f"{fault}: {ended - begun:.0f} s, {dict(outcomes)}, longest answer during it {longest}")
    assert outcomes["200"] > len(said) / 2

    def drained() -> bool:
        return bool(outbox(cluster)["waiting"] == 0)

    cluster.wait_for(drained, 90, lambda: f"the outbox is not empty: {outbox(cluster)}")
    assert outbox(cluster)["parked"] == 0

    acknowledged = defaultdict(list)
    for conversation, number, outcome, *_ in said:
        if outcome == 200 and number >= 0:
            acknowledged[conversation].append(number)
    assert len(acknowledged) == 10
    export = inside(cluster, f"deploy/{NAME}-app", "python", "-c", REMEMBERED)
    in_memory = [
        line["content"]
        for line in map(json.loads, filter(None, export.split("\n")))
        if line["type"] == "message" and line["content"].startswith(f"{fault} talk ")
    ]
    for conversation, numbers in acknowledged.items():
        messages = whole(cluster, conversation)
        asked = [text for role, text in messages if role == "user" and " talk " in text]
        counts = [int(text.rpartition("/")[2]) for text in asked]
        assert counts == sorted(set(counts)), "in order, none doubled"
        assert set(numbers) <= set(counts), "none lost"
        following = dict(pairwise(messages))
        answered = {int(t.rpartition("/")[2]) for t in asked if following.get(("user", t))}
        assert set(numbers) <= answered, "each with its answer"
        mine = asked[0].rpartition("/")[0] + "/"
        assert [t for t in in_memory if t.startswith(mine)] == asked, "memory has the same"
