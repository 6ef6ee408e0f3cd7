"""How models arrive: the Jobs, what a pod of the model server is ready by, and what tells of it."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pull.names import full

MIRROR = {"registry": "mirror:5000", "insecure": True}


def _jobs(rendered):
    return [
        m for m in rendered.kinds("Job") if m["metadata"]["labels"][COMPONENT] in ("pull", "prune")
    ]


COMPONENT = "app.kubernetes.io/component"


def _args(job):
    return job["spec"]["template"]["spec"]["containers"][0]["args"]


def _server(rendered):
    return rendered.one("StatefulSet", "demo-ollama")["spec"]


def test_a_job_pulls_each_model(stack):
    jobs = _jobs(stack())
    assert [j["metadata"]["annotations"]["metisrag.dev/model"] for j in jobs] == [
        "gemma3:12b",
        "nomic-embed-text",
    ]
    assert _args(jobs[0]) == [
        "--servers", "demo-ollama-pods:11434", "--replicas", "1", "--volume", "40Gi", "gemma3:12b",
    ]  # fmt: skip
    pod = jobs[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "ghcr.io/metis-rag/app:0.1.0"
    assert pod["serviceAccountName"] == "demo-pull"
    # A Job that went when it is done would be made again, and run again.
    assert "ttlSecondsAfterFinished" not in jobs[0]["spec"]


def test_one_model_for_both_is_pulled_once(stack):
    assert len(_jobs(stack({"models": {"chat": "one", "embedding": "one"}}))) == 1


def test_what_changes_a_job_changes_its_name(stack):
    """The API server refuses to change the template of a Job."""
    rendered = [
        stack(values)
        for values in (
            {},
            {"models": {"chat": "other"}},
            {"app": {"image": {"tag": "2"}}},
            {"app": {"tolerations": [{"operator": "Exists"}]}},
            {"ollama": {"replicas": 2}},
            {"ollama": {"pull": MIRROR}},
            {"pods": {"fixedIds": False}},
        )
    ]
    seen = {}
    for job in (j for r in rendered for j in _jobs(r)):
        spec = {k: v for k, v in job["spec"].items() if k != "suspend"}
        assert seen.setdefault(job["metadata"]["name"], spec) == spec
    assert len(seen) == 13  # the embedding model is the same in the second


def test_suspended_jobs_keep_their_names(stack):
    rests = _jobs(stack({"suspend": True}))
    assert [j["metadata"]["name"] for j in rests] == [j["metadata"]["name"] for j in _jobs(stack())]
    assert all(j["spec"]["suspend"] for j in rests)


def test_the_way_to_the_registry(stack):
    pull = {**MIRROR, "proxy": "http://proxy:3128", "noProxy": ".svc", "also": ["third"]}
    rendered = stack({"ollama": {"pull": pull}})
    jobs = _jobs(rendered)
    assert len(jobs) == 3
    for job in jobs:
        assert _args(job)[-4:-1] == ["--registry", "mirror:5000", "--insecure"]
    (container,) = _server(rendered)["template"]["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    # Not HTTP_PROXY: it would stand between Ollama and its own clients.
    assert (env["HTTPS_PROXY"], env["NO_PROXY"]) == ("http://proxy:3128", ".svc")
    assert "HTTP_PROXY" not in env


def test_a_proxys_password_does_not_belong_into_values(stack, refused):
    with pytest.raises(refused, match="proxy"):
        stack({"ollama": {"pull": {"proxy": "http://ann:secret@proxy:3128"}}})


def test_what_is_no_longer_wanted_goes_only_when_asked(stack):
    assert not any("--prune" in _args(job) for job in _jobs(stack()))
    *_, prune = _jobs(stack({"ollama": {"pull": {"prune": True}}}))
    assert _args(prune) == [
        "--servers", "demo-ollama-pods:11434", "--prune", "--replicas", "1",
        "gemma3:12b", "nomic-embed-text",
    ]  # fmt: skip
    assert "metisrag.dev/model" not in prune["metadata"].get("annotations", {})
    # The former embedding model answers until its index is replaced.
    anew = stack({"ollama": {"pull": {"prune": True}}, "models": {"reindex": True}})
    assert not any("--prune" in _args(job) for job in _jobs(anew))


@pytest.mark.parametrize(
    "ollama", [{"preload": {"image": "models:1"}}, {"pull": {"enabled": False}}]
)
def test_models_that_are_brought_are_not_pulled(stack, ollama):
    rendered = stack({"ollama": ollama})
    assert _jobs(rendered) == []
    (policy,) = [
        p for p in rendered.kinds("NetworkPolicy") if p["metadata"]["name"] == "demo-ollama"
    ]
    assert "Egress" in policy["spec"]["policyTypes"]
    assert "egress" not in policy["spec"]
    init = _server(rendered)["template"]["spec"].get("initContainers", [])
    assert [c["image"] for c in init] == ["models:1"] * ("preload" in ollama)


def test_several_servers_have_a_volume_each_or_one_together(stack):
    each = stack({"ollama": {"replicas": 3}})
    assert _server(each)["replicas"] == 3
    assert _server(each)["volumeClaimTemplates"][0]["metadata"]["name"] == "models"
    assert all("--shared" not in _args(job) for job in _jobs(each))
    together = stack({"ollama": {"replicas": 3, "existingClaim": "mine"}})
    assert "volumeClaimTemplates" not in _server(together)
    volumes = {v["name"]: v for v in _server(together)["template"]["spec"]["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "mine"}
    assert all("--shared" in _args(job) and "--volume" not in _args(job) for job in _jobs(together))


def test_the_app_finds_each_pod_to_say_what_is_missing(stack):
    def environment(rendered):
        (container,) = rendered.one("Deployment", "demo-app")["spec"]["template"]["spec"][
            "containers"
        ]
        return {e["name"]: e["value"] for e in container["env"] if "PODS" in e["name"]}

    pods = stack().one("Service", "demo-ollama-pods")["spec"]
    assert (pods["clusterIP"], pods["publishNotReadyAddresses"]) == ("None", True)
    assert environment(stack()) == {"OLLAMA_PODS": "demo-ollama-pods:11434"}
    several = stack({"ollama": {"replicas": 2}})
    assert environment(several)["OLLAMA_READY_PODS"] == "demo-ollama-ready:11434"
    ready = several.one("Service", "demo-ollama-ready")["spec"]
    assert ready["publishNotReadyAddresses"] is False


def test_another_model_restarts_no_server(stack):
    now = _server(stack())
    later = _server(stack({"models": {"chat": "other"}, "ollama": {"pull": {"also": ["third"]}}}))
    assert now == later


# The names as `ollama list` shows them, and the places of their manifests.
NAMES = {
    "gemma3": ("gemma3:latest", "registry.ollama.ai/library/gemma3/latest"),
    "gemma3:12b": ("gemma3:12b", "registry.ollama.ai/library/gemma3/12b"),
    "ann/gemma3:1b": ("ann/gemma3:1b", "registry.ollama.ai/ann/gemma3/1b"),
    "r.io:5000/ann/m": ("r.io:5000/ann/m:latest", "r.io:5000/ann/m/latest"),
}


@pytest.fixture
def lists(stack):
    values = {"models": {"chat": "gemma3:12b", "embedding": "gemma3"}}
    also = [n for n in NAMES if n not in values["models"].values()]
    rendered = stack(values | {"ollama": {"pull": {"also": also}}})
    return rendered.one("ConfigMap", "demo-ollama-models")["data"]


def test_names_as_the_server_has_them(lists):
    models = lists["models"].splitlines()
    assert sorted(models) == sorted(NAMES)
    assert lists["shown"].splitlines() == [NAMES[m][0] for m in models]
    assert lists["manifests"].splitlines() == [NAMES[m][1] for m in models]
    for model, place in zip(models, lists["manifests"].splitlines(), strict=True):
        assert "/".join(full(model)) == place  # as the Job reads them


def _ready(tmp_path, script, wanted, there):
    """Run the probe with an ``ollama`` that has the models ``there``."""
    (tmp_path / "shown").write_text("".join(f"{m}\n" for m in wanted))
    listed = "\n".join(["NAME    ID    SIZE", *(f"{m}    abc    1 GB" for m in there)])
    program = tmp_path / "ollama"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}\nEND\n")
    program.chmod(0o755)
    script = script.replace("/tmp/wanted", str(tmp_path / "wanted"))  # noqa: S108
    script = script.replace("/etc/metis-models", str(tmp_path))
    return subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["a:1", "b:latest"], None),
        (["b:latest", "c:2", "a:1"], None),
        (["a:1"], "b:latest"),
        (["a:10", "xb:latest", "b:latest"], "a:1"),
        ([], "a:1 b:latest"),
    ],
)
def test_a_server_is_ready_when_it_has_its_models(stack, tmp_path, there, missing):
    script = stack().one("ConfigMap", "demo-ollama")["data"]["ready.sh"]
    done = _ready(tmp_path, script, ["a:1", "b:latest"], there)
    assert (done.returncode, done.stderr) == (0 if missing is None else 1, "")
    assert done.stdout.strip() == ("" if missing is None else f"not there yet: {missing}")


def _preload(tmp_path, script, image, wanted):
    models, volume = tmp_path / "image", tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "manifests").write_text("".join(f"{w}\n" for w in wanted))
    for name in image:
        file = models / "manifests" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("manifest")
    (models / "blobs").mkdir()
    (models / "blobs" / "sha256-1").write_text("blob")
    script = script.replace("/etc/metis-models", str(tmp_path))
    done = subprocess.run(
        ["/bin/sh", "-c", script, "preload.sh", str(models), str(volume)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, volume


def test_a_preload_image_without_a_wanted_model_says_what_it_has(stack, tmp_path):
    rendered = stack({"ollama": {"preload": {"image": "models:1"}}})
    script = rendered.one("ConfigMap", "demo-ollama")["data"]["preload.sh"]
    has = ["registry.ollama.ai/library/a/1", "r:5000/ann/b/latest"]
    done, volume = _preload(tmp_path, script, has, [*has, "registry.ollama.ai/library/c/2"])
    assert done.returncode == 1
    assert "does not have: c:2. It has: a:1 r:5000/ann/b:latest." in done.stderr
    assert (volume / "blobs/sha256-1").read_text() == "blob"


def test_a_preload_image_with_all_models(stack, tmp_path):
    rendered = stack({"ollama": {"preload": {"image": "models:1"}}})
    script = rendered.one("ConfigMap", "demo-ollama")["data"]["preload.sh"]
    has = ["registry.ollama.ai/library/a/1"]
    done, volume = _preload(tmp_path, script, has, has)
    assert (done.returncode, done.stderr) == (0, "")
    assert (volume / "manifests" / has[0]).is_file()


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,60}", fullmatch=True))
def test_any_name_that_the_schema_admits_can_be_read(name):
    assert all(isinstance(part, str) for part in full(name))
    json.dumps(full(name))
