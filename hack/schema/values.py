"""Reads an annotated values file into a tree of described values.

The grammar of the annotations stands at the top of charts/stack/values.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

SCALARS = {"string", "integer", "boolean", "quantity"}
TAGS = {"type", "enum", "range", "pattern", "like", "only"}


class AnnotationError(Exception):
    """A values file breaks the grammar: the message names file, line, value and what to write."""


@dataclass(frozen=True)
class Value:
    """One value: a leaf, or a group when it has children.

    ``nullable`` and ``may_be_empty`` tell that null or "" stand for "left out": true where that is
    the default of the value itself or of the one it is like.
    """

    path: str
    description: str
    type: str
    default: Any = None
    enum: tuple[str, ...] = ()
    range: tuple[int, int] | None = None
    pattern: str | None = None
    nullable: bool = False
    may_be_empty: bool = False
    chart_only: bool = False
    children: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    def leaves(self) -> list[Value]:
        """All leaves below, in the file's order; the value itself when it is one."""
        if not self.children:
            return [self]
        return [leaf for child in self.children for leaf in child.leaves()]


def read(path: Path) -> Value:
    """Read the file at ``path``; the root value has the path "".

    Raises:
        AnnotationError: a value lacks a description or a type, or an annotation is not understood.
    """
    return _Reader(path).root()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._file = path
        text = path.read_text()
        self._lines = text.splitlines()
        self._node = yaml.compose(text, Loader=yaml.SafeLoader)
        self._known: dict[str, Value] = {}

    def root(self) -> Value:
        if not isinstance(self._node, yaml.MappingNode):
            raise AnnotationError(f"{self._file}: the file is not a mapping of values")
        return Value("", "", "group", children=self._children(self._node, ""))

    def _children(self, node: yaml.MappingNode, parent: str) -> tuple[Value, ...]:
        return tuple(self._value(key, value, parent) for key, value in node.value)

    def _value(self, key: yaml.Node, node: yaml.Node, parent: str) -> Value:
        path = f"{parent}.{key.value}" if parent else str(key.value)
        line = key.start_mark.line
        description, tags = self._annotations(line, path)
        default = _plain(node)
        if "like" in tags:
            model = self._known.get(tags["like"])
            if model is None:
                raise self._error(line, path, f"@like {tags['like']} names no value above it")
            value = self._like(model, path, default, line)
            if description:
                value = replace(value, description=description)
        else:
            kind = tags.get("type") or self._inferred(default, line, path)
            is_group = kind == "group" and isinstance(node, yaml.MappingNode)
            value = Value(
                path,
                description,
                kind,
                default=None if is_group else default,
                enum=tuple(tags["enum"].split()) if "enum" in tags else (),
                range=self._range(tags["range"], line, path) if "range" in tags else None,
                pattern=tags.get("pattern"),
                nullable=default is None,
                may_be_empty=default == "",
                children=self._children(node, path)
                if is_group and isinstance(node, yaml.MappingNode)
                else (),
            )
        if not value.description:
            raise self._error(line, path, "write '# -- what it does' right above it")
        if tags.get("only", "chart") != "chart":
            raise self._error(line, path, "the only form of @only is '@only chart'")
        value = replace(value, chart_only="only" in tags)
        self._remember(value)
        return value

    def _annotations(self, line: int, path: str) -> tuple[str, dict[str, str]]:
        """Description and tags from the unbroken comment right above ``line``."""
        start = line
        while start > 0 and self._lines[start - 1].lstrip().startswith("#"):
            start -= 1
        words: list[str] = []
        tags: dict[str, str] = {}
        for number in range(start, line):
            text = self._lines[number].lstrip()[1:].strip()
            if text.startswith("-- "):
                words = [text[3:]]
            elif text.startswith("@"):
                tag, _, rest = text[1:].partition(" ")
                if tag not in TAGS or not rest:
                    raise self._error(number, path, f"@{tag} is none of {sorted(TAGS)}")
                tags[tag] = rest.strip()
            elif words and not tags:
                words.append(text)
        return " ".join(words), tags

    def _inferred(self, default: Any, line: int, path: str) -> str:
        match default:
            case bool():
                return "boolean"
            case int():
                return "integer"
            case str():
                return "string"
            case dict() if default:
                return "group"
        raise self._error(line, path, "its default does not tell the type: add '# @type ...'")

    def _range(self, text: str, line: int, path: str) -> tuple[int, int]:
        low, _, high = text.partition("..")
        try:
            return int(low), int(high)
        except ValueError:
            raise self._error(line, path, f"@range {text} is not of the form 1..9") from None

    def _like(self, model: Value, path: str, default: Any, line: int) -> Value:
        """``model`` moved to ``path``, with the defaults given there."""
        if not model.children:
            return replace(model, path=path, default=default)
        names = [child.name for child in model.children]
        if not isinstance(default, dict) or set(default) != set(names):
            raise self._error(line, path, f"a value like {model.path} has the keys {names}")
        children = tuple(
            self._like(child, f"{path}.{child.name}", default[child.name], line)
            for child in model.children
        )
        return replace(model, path=path, children=children)

    def _remember(self, value: Value) -> None:
        self._known[value.path] = value
        for child in value.children:
            self._remember(child)

    def _error(self, line: int, path: str, problem: str) -> AnnotationError:
        return AnnotationError(f"{self._file}:{line + 1}: {path}: {problem}")


def _plain(node: yaml.Node) -> Any:
    """The node as plain Python data."""
    return yaml.safe_load(yaml.serialize(node))
