"""The interface against a plain model in memory; each call goes to either of two processes."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

HUMANS = ("ada", "bob/2")
WORDS = st.sampled_from(["green tea", "black tea", "trains to Vienna", "ö\t\\u0000 '\"", "x"])
KEYS = st.none() | st.sampled_from(["k1", "k2"])
KINDS = st.sampled_from(["note", "prefs"])
DATA = st.fixed_dictionaries({"text": WORDS}, optional={"n": st.integers(-5, 5), "l": st.just([])})
who = st.sampled_from(HUMANS)
either = st.integers(0, 1)


class Held:
    """What the model holds about one human."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.recall: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self.memories: list[dict[str, Any]] = []
        self.events: list[tuple[str, str, str | None, str | None]] = []
        self.keys: dict[tuple[str, str], tuple[Any, Any]] = {}


class Conversations(RuleBasedStateMachine):
    """Calls, and what they must answer."""

    clients: tuple[httpx.Client, httpx.Client]

    def __init__(self) -> None:
        super().__init__()
        self.run = uuid4().hex[:8]  # ids of this run's own: nothing is there at first
        self.people: dict[str, Held] = {}

    def call(self, server: int, method: str, path: str, **request: Any) -> httpx.Response:
        answer = self.clients[server].request(method, path, **request)
        assert answer.status_code < 500, (method, path, answer.text)
        return answer

    def human(self, human: str) -> str:
        return f"{self.run}-{human}"

    def path(self, human: str, rest: str = "") -> str:
        escaped = self.human(human).replace("/", "%2F")
        return f"/agents/{self.run}/humans/{escaped}{rest}" if rest else f"/humans/{escaped}"

    @initialize(server=either)
    def the_agent_exists(self, server: int) -> None:
        body = {"name": "A", "persona": ""}
        assert self.call(server, "PUT", f"/agents/{self.run}", json=body).status_code == 200

    @rule(server=either, human=who, name=st.none() | st.sampled_from(["Ada", ""]))
    def put_human(self, server: int, human: str, name: str | None) -> None:
        held = self.people.setdefault(human, Held())
        held.name = name if name is not None else held.name
        answer = self.call(server, "PUT", self.path(human), json={"name": name})
        assert (answer.status_code, answer.json()["name"]) == (200, held.name)

    @rule(server=either, human=who)
    def delete_human(self, server: int, human: str) -> None:
        held = self.people.pop(human, None)
        answer = self.call(server, "DELETE", self.path(human))
        assert answer.status_code == (404 if held is None else 200)
        if held is not None:
            records = len(held.records) + len(held.memories)
            assert answer.json() == {"messages": len(held.recall), "records": records}

    @rule(server=either, human=who, content=WORDS, key=KEYS, again=st.booleans())
    def append(self, server: int, human: str, content: str, key: str | None, again: bool) -> None:
        body = {"role": "user", "content": content}
        headers = {"Idempotency-Key": key} if key else {}
        path = self.path(human, "/recall")
        for at in (server, 1 - server)[: 1 + again]:
            answer = self.call(at, "POST", path, json=body, headers=headers)
            held = self.people.get(human)
            if held is None:
                assert answer.json()["error"]["code"] == "human_not_found"
                continue
            known = held.keys.get(("recall", key or ""))
            if known is None:
                assert answer.status_code == 201
                message = answer.json()
                assert message["id"] > max((m["id"] for m in held.recall), default=0)
                held.recall.append(message)
                if key:
                    held.keys["recall", key] = (body, message)
            elif known[0] == body:
                assert (answer.status_code, answer.json()) == (200, known[1])
            else:
                assert answer.json()["error"]["code"] == "idempotency_conflict"

    @rule(server=either, human=who, limit=st.integers(1, 4), skip=st.integers(0, 3))
    def recall(self, server: int, human: str, limit: int, skip: int) -> None:
        held = self.people.get(human)
        messages = held.recall if held else []
        params = {"limit": limit}
        if skip and len(messages) > skip:
            params["before"] = messages[-skip]["id"]
            messages = messages[:-skip]
        answer = self.call(server, "GET", self.path(human, "/recall"), params=params)
        if held is None:
            assert answer.status_code == 404
        else:
            assert answer.json() == {"messages": messages[-limit:]}

    @rule(server=either, human=who, kind=KINDS, data=DATA, replace=st.booleans(), key=KEYS)
    def archive(
        self, server: int, human: str, kind: str, data: Any, replace: bool, key: str | None
    ) -> None:
        body = {"kind": kind, "data": data, "replace": replace}
        headers = {"Idempotency-Key": key} if key else {}
        path = self.path(human, "/archival")
        answer = self.call(server, "POST", path, json=body, headers=headers)
        held = self.people.get(human)
        if held is None:
            assert answer.status_code == 404
            return
        known = held.keys.get(("archival", key or ""))
        if known is None:
            assert answer.status_code == 201
            record = answer.json()
            assert (record["kind"], record["data"]) == (kind, data)
            if replace:
                held.records = [one for one in held.records if one["kind"] != kind]
            held.records.append(record)
            if key:
                held.keys["archival", key] = (body, record)
        elif known[0] == body:
            assert (answer.status_code, answer.json()["id"]) == (200, known[1]["id"])
        else:
            assert answer.status_code == 409

    @rule(server=either, human=who, kind=KINDS, limit=st.integers(1, 4))
    def records(self, server: int, human: str, kind: str, limit: int) -> None:
        held = self.people.get(human)
        path = self.path(human, "/archival")
        answer = self.call(server, "GET", path, params={"limit": limit, "kind": kind})
        blank = {"query": " ", "kind": kind, "limit": limit}
        searched = self.call(server, "POST", f"{path}/search", json=blank)
        if held is None:
            assert (answer.status_code, searched.status_code) == (404, 404)
            return
        wanted = [one for one in reversed(held.records) if one["kind"] == kind][:limit]
        assert answer.json() == {"records": wanted}
        assert searched.json() == {"records": [{**one, "score": None} for one in wanted]}

    @rule(server=either, human=who, kind=KINDS, query=WORDS)
    def search(self, server: int, human: str, kind: str, query: str) -> None:
        body = {"query": query, "kind": kind, "limit": 100}
        answer = self.call(server, "POST", self.path(human, "/archival/search"), json=body)
        held = self.people.get(human)
        if held is None:
            assert answer.status_code == 404
            return
        found = answer.json()["records"]
        there = {one["id"]: one for one in held.records if one["kind"] == kind}
        assert all({k: v for k, v in f.items() if k != "score"} == there[f["id"]] for f in found)
        named = {i for i, one in there.items() if one["data"]["text"] == query != "ö\t\\u0000 '\""}
        assert named <= {one["id"] for one in found}
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True)

    @rule(server=either, human=who, texts=st.lists(WORDS, min_size=1, max_size=2))
    def remember(self, server: int, human: str, texts: list[str]) -> None:
        held = self.people.setdefault(human, Held())  # named is made
        messages = [{"role": "user", "content": text} for text in texts]
        body = {"messages": messages, "user_id": self.human(human), "infer": False}
        events = self.call(server, "POST", "/memories", json=body).json()["results"]
        assert [one["memory"] for one in events] == texts
        for one in events:
            held.memories.append({"id": one["id"], "memory": one["memory"]})
            held.events.append((one["id"], "ADD", None, one["memory"]))

    @rule(server=either, human=who, pick=st.integers(0, 5), text=WORDS)
    def change(self, server: int, human: str, pick: int, text: str) -> None:
        held = self.people.get(human)
        if held is None or pick >= len(held.memories):
            unknown = self.call(server, "PUT", f"/memories/{uuid4()}", json={"text": text})
            assert unknown.status_code == 404
            return
        one = held.memories[pick]
        changed = self.call(server, "PUT", f"/memories/{one['id']}", json={"text": text})
        assert changed.status_code == 200
        held.events.append((one["id"], "UPDATE", one["memory"], text))
        one["memory"] = text

    @rule(server=either, human=who, pick=st.integers(0, 5))
    def forget(self, server: int, human: str, pick: int) -> None:
        held = self.people.get(human)
        if held is None or pick >= len(held.memories):
            assert self.call(server, "DELETE", f"/memories/{uuid4()}").status_code == 404
            return
        gone = held.memories.pop(pick)["id"]
        assert self.call(server, "DELETE", f"/memories/{gone}").status_code == 200
        self.unsay(held, {gone})
        assert self.call(1 - server, "GET", f"/memories/{gone}").status_code == 404

    @rule(server=either, human=who)
    def forget_all(self, server: int, human: str) -> None:
        params = {"user_id": self.human(human)}
        assert self.call(server, "DELETE", "/memories", params=params).status_code == 200
        held = self.people.get(human)
        if held is not None:
            gone = [one["id"] for one in held.memories]
            held.memories = []
            self.unsay(held, set(gone))

    @staticmethod
    def unsay(held: Held, gone: set[str]) -> None:
        """The words go, the events stay, and one is added for each memory."""
        held.events = [
            (m, e, None, None) if m in gone else (m, e, o, n) for m, e, o, n in held.events
        ]
        held.events += [(memory, "DELETE", None, None) for memory in gone]

    @invariant()
    def both_servers_tell_the_same(self) -> None:
        for server in (0, 1):
            for human in HUMANS:
                params = {"user_id": self.human(human), "top_k": 100}
                listed = self.call(server, "GET", "/memories", params=params).json()["results"]
                held = self.people.get(human)
                wanted = held.memories if held else []
                assert [(m["id"], m["memory"]) for m in reversed(listed)] == [
                    (m["id"], m["memory"]) for m in wanted
                ]

    def teardown(self) -> None:
        """An export holds it all; then nothing is left."""
        for human, held in self.people.items():
            text = self.call(0, "GET", self.path(human, "") + "/export").text
            told = [json.loads(line) for line in text.splitlines()]
            messages = [one["content"] for one in told if one["type"] == "message"]
            assert messages == [one["content"] for one in held.recall]
            ids = {one["id"] for one in told if one["type"] == "record"}
            assert ids == {one["id"] for one in held.records + held.memories}
            events = sorted(
                str((one["memory_id"], one["event"], one["old_memory"], one["new_memory"]))
                for one in told
                if one["type"] == "history"
            )
            assert events == sorted(str(event) for event in held.events)
            assert told[-1]["type"] == "end"
            assert self.call(1, "DELETE", self.path(human)).status_code == 200
            assert self.call(0, "GET", self.path(human) + "/export").status_code == 404


@pytest.mark.parametrize(
    ("examples", "steps", "phases"),
    [
        # What fails is told as it is; making it small takes minutes.
        pytest.param(6, 25, (Phase.explicit, Phase.generate), id="quick"),
        pytest.param(
            200,
            50,
            tuple(Phase),
            id="thorough",
            marks=[pytest.mark.full, pytest.mark.timeout(1800)],
        ),
    ],
)
def test_two_processes_answer_as_the_model_does(
    examples: int,
    steps: int,
    phases: tuple[Phase, ...],
    spawn: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
) -> None:
    servers = [spawn(OLLAMA_BASE_URL=scripted_ollama.url) for _ in range(2)]
    for one in servers:
        wait(
            lambda one=one: one.client.get("/status").json()["embeddings"]["status"] == "ok",
            "the index",
            60,
        )
    Conversations.clients = (servers[0].client, servers[1].client)
    run(
        Conversations,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
