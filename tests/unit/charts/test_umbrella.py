"""The three ways of use come from one description, and the package holds the chart alone."""

from __future__ import annotations

import copy
import tarfile

import yaml

HOOK = "helm.sh/hook"


def test_by_default_an_operator_and_one_instance(render):
    rendered = render({}, name="metis")
    assert {m["kind"] for m in rendered.kinds("MetisRAG")} == {"MetisRAG"}
    assert rendered.one("MetisRAG", "metis")["spec"] == {}
    assert rendered.one("Deployment", "metis-operator")["spec"]["replicas"] == 2
    assert not rendered.kinds("StatefulSet")


def test_the_crd_comes_with_the_operator(helm):
    text = helm("template", "metis", ".", "--include-crds")
    kinds = [m["kind"] for m in yaml.safe_load_all(text) if m]
    assert kinds.count("CustomResourceDefinition") == 1


def test_the_operator_gets_the_defaults_as_they_were_given(render):
    defaults = {"models": {"chat": "smollm2:135m"}, "ollama": {"gpu": {"count": 2}}}
    rendered = render({"operator": {"defaults": defaults}}, name="metis")
    data = rendered.one("ConfigMap", "metis-operator")["data"]
    assert yaml.safe_load(data["defaults.yaml"]) == defaults


def test_a_change_of_defaults_brings_a_new_operator(render):
    def stamp(model):
        values = {"operator": {"defaults": {"models": {"chat": model}}}}
        template = render(values).one("Deployment", "demo-operator")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/defaults"]

    assert stamp("a") != stamp("b")


def test_both_ways_render_the_same_stack(render, fixture_values):
    values = copy.deepcopy(fixture_values.get("stack", {}))
    if not values.pop("enabled", False):
        return
    by_helm = render(fixture_values).manifests
    as_operator = render(values, "charts/stack").manifests
    assert {_key(m): m for m in by_helm} == {_key(m): m for m in as_operator}


def _key(manifest):
    return manifest["kind"], manifest["metadata"]["name"]


def test_the_hook_may_do_what_it_needs_and_no_more(stack):
    rules = stack().one("Role", "demo-credentials")["rules"]
    assert rules == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["demo-metis-db", "demo-mem0-db", "demo-mem0-key", "demo-auth"],
            "verbs": ["get", "patch"],
        },
    ]


def test_the_credentials_and_the_check_are_hooks_and_nothing_else_is(stack):
    hooks = {_key(m) for m in stack().manifests if HOOK in m["metadata"].get("annotations", {})}
    kinds = ("ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Job")
    assert hooks == {(kind, "demo-credentials") for kind in kinds} | {("Pod", "demo-test")}
    job = stack().one("Job", "demo-credentials")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "metis_operator"]
    only = [a for p in ("metis-db", "mem0-db", "mem0-key", "auth") for a in ("--only", p)]
    assert container["args"] == ["credentials", "--instance", "demo", "--namespace", "rag", *only]


def test_the_check_is_the_same_pod_with_an_operator_and_without(render):
    """One is written out in the umbrella, where the stack's templates are not at hand."""
    values = {
        "auth": {"existingSecret": "mine"},
        "pods": {"fixedIds": False},
        "image": {"architecture": "arm64", "pullSecrets": ["mirror"]},
        "app": {"service": {"port": 80}},
    }
    alone = {"operator": {"enabled": False}, "instance": {"create": False}}
    for spec in ({}, values, {"auth": {"mode": "none"}}):
        by_helm = render(alone | {"stack": {"enabled": True, **spec}}).one("Pod", "demo-test")
        image = {"image": {"pullSecrets": spec.get("image", {}).get("pullSecrets", [])}}
        over = spec | {"auth": {"mode": "keys", **spec.get("auth", {})}}
        for operator, own in (
            (image, spec),
            (image | {"defaults": spec}, {}),
            (image | {"defaults": {"auth": {"mode": "none"}}}, over),
        ):
            made = {"operator": operator, "instance": {"spec": own}}
            with_operator = render(made).one("Pod", "demo-test")
            assert with_operator["spec"] == by_helm["spec"]
            labels = with_operator["metadata"]["labels"]
            assert labels.items() <= by_helm["metadata"]["labels"].items()
            notes = with_operator["metadata"]["annotations"]
            assert notes == by_helm["metadata"]["annotations"]


def test_an_operator_of_one_namespace_has_rights_there_alone(render):
    rendered = render({"operator": {"watchNamespace": "team"}}, name="metis")
    namespaces = {m["metadata"]["namespace"] for m in rendered.kinds("RoleBinding")}
    assert namespaces == {"team", "rag"}
    (cluster_wide,) = rendered.kinds("ClusterRole")
    (rule,) = cluster_wide["rules"]
    assert (rule["resources"], rule["resourceNames"]) == (
        ["customresourcedefinitions"],
        ["metisrags.metisrag.dev"],
    )


def test_an_administrator_s_crd_leaves_the_operator_no_right_in_the_cluster(render):
    values = {"watchNamespace": "team", "crd": {"manage": False}}
    rendered = render({"operator": values}, name="metis")
    assert not rendered.kinds("ClusterRole")
    assert not rendered.kinds("ClusterRoleBinding")
    (container,) = rendered.one("Deployment", "metis-operator")["spec"]["template"]["spec"][
        "containers"
    ]
    assert {"name": "METIS_CRD_FILE", "value": ""} in container["env"]


def test_no_operator_may_delete_data_or_credentials(render):
    for role in render({}).kinds("ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if {"secrets", "persistentvolumeclaims"} & set(rule["resources"]):
                assert not {"delete", "deletecollection"} & set(rule["verbs"])


def test_what_git_ignores_at_the_root_is_not_packed_either(root):
    """What a local run leaves there: documents, keys."""
    ignored = {line.strip("/") for line in (root / ".gitignore").read_text().splitlines()}
    folders = {name for name in ignored if name and name[0].isalpha() and "." not in name}
    assert "data" in folders
    rules = (root / ".helmignore").read_text().splitlines()
    assert {f"/{name}/" for name in folders} <= set(rules)


def test_the_package_holds_the_chart_alone(helm, tmp_path):
    helm("package", ".", "-d", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = {name.removeprefix("metis-rag/") for name in archive.getnames()}
    top = {name.split("/")[0] for name in names}
    assert top == {
        "Chart.yaml",
        "Chart.lock",
        "LICENSE",
        "README.md",
        "charts",
        "templates",
        "values.yaml",
        "values.schema.json",
    }
    assert {name.split("/")[1] for name in names if name.startswith("charts/")} == {
        "operator",
        "stack",
    }
    assert "charts/operator/crds/metisrags.metisrag.dev.yaml" in names
    assert package.stat().st_size < 100_000


def test_the_lock_is_of_these_dependencies(root):
    chart, lock = (yaml.safe_load((root / f"Chart.{n}").read_text()) for n in ("yaml", "lock"))
    wanted = [(d["name"], d["version"]) for d in chart["dependencies"]]
    assert [(d["name"], d["version"]) for d in lock["dependencies"]] == wanted
