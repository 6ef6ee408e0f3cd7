"""Writes described values as JSON Schema (for Helm) and as an OpenAPI v3 structural schema (CRD).

The two differ where Kubernetes and Helm do: a structural schema has neither type lists nor
``additionalProperties: false`` (the API server drops or refuses unknown fields by itself), and here
no defaults either, so that the operator can tell a value that was left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hack.schema.values import SCALARS, Value

Schema = dict[str, Any]
Rule = tuple[str, str]  # CEL expression, message

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
_TOLERATION_ENUMS = {
    "operator": ["Exists", "Equal"],
    "effect": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
}
# Bounds that keep the API server's estimate of a rule's cost low.
_MAX_ITEMS = 64
_MAX_LENGTH = 1024


def told(value: Value) -> str:
    """The description with the default at its end."""
    text = value.description
    if value.default in (None, "", {}, []):
        return text
    shown = value.default if isinstance(value.default, str) else json.dumps(value.default)
    return f"{text} Default: {shown}"


class HelmDialect:
    """JSON Schema draft-07, strict. ``spec`` is the schema that values of type spec must meet."""

    def __init__(self, spec: Schema | None = None, *, nullable: bool = True) -> None:
        self._spec = spec
        self._nullable = nullable

    def document(self, root: Value, title: str, subcharts: Collection[str] = ()) -> Schema:
        """The whole values.schema.json of a chart.

        ``subcharts`` are the keys of its dependencies: Helm puts ``global`` into their values.
        """
        schema = self.group(root.children)
        properties = schema["properties"]
        properties["global"] = {"type": "object", "description": "Values of all charts."}
        properties.setdefault(
            "enabled", {"type": "boolean", "description": "Read by the parent chart alone."}
        )
        for name in subcharts:
            if "properties" in properties.get(name, {}):
                properties[name]["properties"]["global"] = {"type": "object"}
        head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title}
        return head | schema

    def group(self, values: Collection[Value]) -> Schema:
        """The schema of an object with exactly these values."""
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {value.name: self.value(value) for value in values},
        }

    def value(self, value: Value) -> Schema:
        """The schema of one value."""
        if value.children:
            return {"description": value.description} | self.group(value.children)
        schema: Schema = {"description": value.description} | _leaf(value, self._typed)
        if self._nullable and value.nullable:
            kind = schema["type"]
            schema["type"] = [*([kind] if isinstance(kind, str) else kind), "null"]
        if value.type not in {"spec", "subchart"}:
            schema["default"] = value.default
        return schema

    def _typed(self, kind: str) -> Schema:
        match kind:
            case "quantity":
                return {"type": ["string", "integer"], "pattern": QUANTITY}
            case "object" | "subchart":
                return {"type": "object"}
            case "spec":
                if self._spec is None:
                    raise ValueError("this chart has no value of type spec")
                return self._spec
            case _:
                return _shape(kind, self._typed, closed=True)


class CrdDialect:
    """OpenAPI v3 structural schema with CEL rules by path."""

    def __init__(self, rules: Mapping[str, list[Rule]]) -> None:
        self._rules = rules

    def group(self, path: str, description: str, values: Collection[Value]) -> Schema:
        """The schema of an object with exactly these values, and its rules."""
        schema: Schema = {
            "type": "object",
            "description": description,
            "properties": {value.name: self.value(value) for value in values},
        }
        if rules := self._rules.get(path):
            schema["x-kubernetes-validations"] = [
                {"rule": rule, "message": message} for rule, message in rules
            ]
        return schema

    def value(self, value: Value) -> Schema:
        """The schema of one value."""
        if value.children:
            return self.group(value.path, value.description, value.children)
        return {"description": told(value)} | _leaf(value, self._typed)

    def _typed(self, kind: str) -> Schema:
        match kind:
            case "quantity":
                return {
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                    "x-kubernetes-int-or-string": True,
                    "pattern": QUANTITY,
                }
            case "object":
                return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            case "string":
                return {"type": "string", "maxLength": _MAX_LENGTH}
            case _:
                return _shape(kind, self._typed, closed=False)


def _leaf(value: Value, typed: Callable[[str], Schema]) -> Schema:
    """The schema of a leaf's type with its own bounds."""
    if value.type.startswith("["):
        item = typed(value.type.strip("[]"))
        if value.pattern:
            item = item | {"pattern": value.pattern}
        return {"type": "array", "maxItems": _MAX_ITEMS, "items": item}
    schema = typed(value.type)
    if value.enum:
        schema = {key: schema[key] for key in schema if key != "maxLength"}
        schema["enum"] = [*value.enum, *([""] if value.may_be_empty else [])]
    if value.range:
        schema = schema | {"minimum": value.range[0], "maximum": value.range[1]}
    if value.pattern:
        pattern = f"^$|{value.pattern}" if value.may_be_empty else value.pattern
        schema = schema | {"pattern": pattern}
    return schema


def _shape(kind: str, typed: Callable[[str], Schema], *, closed: bool) -> Schema:
    """Kubernetes' own shapes, and the plain scalars; ``closed`` objects admit no other keys."""

    def record(properties: Schema, required: list[str] | None = None) -> Schema:
        schema: Schema = {"type": "object", "properties": properties}
        if closed:
            schema["additionalProperties"] = False
        if required:
            schema["required"] = required
        return schema

    def listing(item: Schema) -> Schema:
        return {"type": "array", "maxItems": _MAX_ITEMS, "items": item}

    if kind in SCALARS:
        return {"type": kind}
    match kind:
        case "map":
            return {"type": "object", "additionalProperties": typed("string")}
        case "resources":
            quantities: Schema = {
                # Helm's way to take away a default: limits: null.
                "type": ["object", "null"] if closed else "object",
                "maxProperties": _MAX_ITEMS,
                "additionalProperties": typed("quantity"),
            }
            return record({"requests": quantities, "limits": quantities})
        case "tolerations":
            fields: Schema = {"key": typed("string"), "value": typed("string")}
            fields |= {
                name: {"type": "string", "enum": list(values)}
                for name, values in _TOLERATION_ENUMS.items()
            }
            return listing(record(fields | {"tolerationSeconds": {"type": "integer"}}))
        case "env":
            name = typed("string") | {"pattern": _ENV_NAME}
            return listing(record({"name": name, "value": typed("string")}, ["name", "value"]))
    raise ValueError(f"@type {kind} is not known")
