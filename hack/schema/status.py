"""The status of a MetisRAG, as the custom resource definition describes it."""

from __future__ import annotations

from typing import Any

from hack.schema.dialects import Schema


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description} | more


def _whole(description: str, **more: Any) -> Schema:
    return {"type": "integer", "description": description} | more


def record(properties: Schema, required: list[str] | None = None) -> Schema:
    """An object with these properties."""
    schema: Schema = {"type": "object", "properties": properties}
    return schema | ({"required": required} if required else {})


def _index(unit: str) -> Schema:
    """How far the embedding of one index is."""
    return {
        "state": _text("Waiting, Reindexing or Complete."),
        "model": _text("The embedding model of the index that answers."),
        "percent": _whole("How much has been embedded anew.", minimum=0, maximum=100),
        "done": _whole(f"{unit} embedded anew.", format="int64"),
        "total": _whole(f"{unit} in all.", format="int64"),
        "rate": _text(f"{unit} a second."),
        "etaSeconds": _whole("Seconds that are left at this rate.", format="int64"),
        "message": _text("What it waits for, for a person."),
    }


def status() -> Schema:
    """All that the operator reports of a MetisRAG."""
    condition = record(
        {
            "type": _text("Ready, Reconciling or Stalled.", maxLength=316),
            "status": _text("True, False or Unknown.", enum=["True", "False", "Unknown"]),
            "reason": _text("One word for why.", maxLength=1024),
            "message": _text("What is the matter and what to do, for a person.", maxLength=32768),
            "lastTransitionTime": _text("When the status changed last.", format="date-time"),
            "observedGeneration": _whole("Generation of the spec it speaks of.", format="int64"),
        },
        ["type", "status", "reason", "message", "lastTransitionTime"],
    )
    component = record(
        {
            "name": _text("The part: app, mem0, ollama, metis-postgres or mem0-postgres."),
            "ready": {"type": "boolean", "description": "Whether all its pods are ready."},
            "reason": _text("One word for why it is not."),
            "message": _text("What is the matter and what to do, for a person."),
            "replicas": _whole("Pods wanted.", format="int32"),
            "readyReplicas": _whole("Pods ready.", format="int32"),
        },
        ["name", "ready"],
    )
    child = record(
        {
            "group": _text("API group, empty for the core."),
            "version": _text("API version."),
            "kind": _text("Kind."),
            "namespace": _text("Namespace."),
            "name": _text("Name."),
        },
        ["kind", "name"],
    )
    model = record(
        {
            "name": _text("Name of the model."),
            "ready": {"type": "boolean", "description": "Whether the model can be used."},
            "state": _text(
                "Waiting, Pulling, Verifying, Failed (and trying again) or Ready.",
                enum=["Waiting", "Pulling", "Verifying", "Failed", "Ready"],
            ),
            "percent": _whole("How much of it has been pulled.", minimum=0, maximum=100),
            "size": _whole(
                "Bytes of those of its layers whose pull has begun, on all servers.", format="int64"
            ),
            "bytesPerSecond": _whole("Bytes pulled in a second, of late.", format="int64"),
            "etaSeconds": _whole("Seconds left, at that rate.", format="int64"),
            "message": _text("What it waits for, or why it cannot be pulled, for a person."),
        },
        ["name"],
    )
    upgrade = record(
        {
            "state": _text(
                "Waiting for its turn, Rolling, or Failed.", enum=["Waiting", "Rolling", "Failed"]
            ),
            "message": _text("What it waits for, or what is wrong, for a person."),
        },
        ["state"],
    )
    gpu = record(
        {
            "phase": _text(
                "CPU while the models run there instead; Returning to the GPUs.",
                enum=["CPU", "Returning"],
            ),
            "since": _text("Since when.", format="date-time"),
            "wish": _text("Fingerprint of the settings that ask for GPUs."),
            "failures": _whole("How often in a row there were none."),
            "scheduler": _text("The scheduler's words on it."),
        },
        ["phase"],
    )
    embedding = record(
        _index("Pieces of documents")
        | {
            "wanted": _text("The embedding model that is asked for."),
            "memories": record(_index("Records"), ["state"])
            | {"description": "The same of what the memory server holds."},
        },
        ["state"],
    )
    rotation = record(
        {
            "component": _text("What is rotated: mem0-key, mem0-db or metis-db."),
            "phase": _text("Idle, Preparing, Switching or Revoking."),
            "phaseSince": _text("Since when it is in that phase.", format="date-time"),
            "current": _text("Fingerprint of the credential in use."),
            "incoming": _text("Fingerprint of the one that comes into use next."),
            "previous": _text("Fingerprint of the one that goes out of use."),
            "since": _text("Since when the current one is in use.", format="date-time"),
            "next": _text("When the next rotation is due.", format="date-time"),
            "last": record(
                {
                    "outcome": _text("How the last rotation ended."),
                    "finished": _text("When it ended.", format="date-time"),
                }
            )
            | {"description": "The last rotation."},
            "message": _text("What it waits for, for a person."),
        },
        ["component", "phase"],
    )
    phases = ["Pending", "Progressing", "Ready", "Degraded", "Suspended", "Failed"]
    found = record(
        {
            "observedGeneration": _whole("Generation last acted on.", format="int64"),
            "phase": _text("The state in one word.", enum=phases),
            "conditions": {
                "type": "array",
                "description": "Ready, Reconciling and Stalled.",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
            "components": {
                "type": "array",
                "description": "The state of each part.",
                "items": component,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
            "models": {
                "type": "array",
                "description": "The models and how far they have been pulled.",
                "items": model,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
            "rotation": {
                "type": "array",
                "description": "How the rotation of each credential stands; no value, ever.",
                "items": rotation,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["component"],
            },
            "embedding": embedding
            | {"description": "With models.reindex: how far the change of the model is."},
            "operatorVersion": _text("Version of the operator whose rendering is in place."),
            "upgrade": upgrade
            | {
                "description": "While a new operator's rendering is not in place and ready: how far"
                " it is."
            },
            "gpu": gpu
            | {
                "description": "Only while GPUs that the spec asks for are not to be had, or were"
                " not a short time ago."
            },
            "endpoint": _text("URL of the app within the cluster."),
            "url": _text("URL of the app from outside, where it is published."),
            "model": _text("The model that answers."),
            "replicas": _whole("Pods of the app.", format="int32"),
            "selector": _text("Label selector of the app's pods."),
            "inventory": {
                "type": "array",
                "description": "The objects that the operator made for this resource.",
                "items": child,
            },
        }
    )
    return found | {
        "description": "What the operator found and did.",
        # Nothing may take a resource that no operator has seen yet for a finished one.
        "default": {"observedGeneration": -1},
        # An operator of another version may report more.
        "x-kubernetes-preserve-unknown-fields": True,
    }
