"""The installed package is enough for the commands: each library they import is a dependency."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[4]
PACKAGE = ROOT / "operator" / "metis_operator"
# What pods call; their images bring more than the package asks for.
OF_PODS = {"cli/process.py", "cli/rotation_process.py", "cli/check_process.py"}


def imports(path: Path) -> tuple[set[Path], set[str]]:
    """The modules of the package that ``path`` imports, and the libraries."""
    ours, theirs = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            theirs |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            theirs.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [base.with_suffix(".py"), *(base / f"{n.name}.py" for n in node.names)]
            ours |= {name for name in names if name.is_file()}
    return ours, theirs - set(sys.stdlib_module_names)


def test_every_library_of_the_commands_is_a_dependency() -> None:
    todo = set((PACKAGE / "cli").glob("*.py"))
    seen: set[Path] = set()
    libraries: set[str] = set()
    while todo:
        path = todo.pop()
        if path in seen or str(path.relative_to(PACKAGE)) in OF_PODS:
            continue
        seen.add(path)
        ours, theirs = imports(path)
        todo |= ours
        libraries |= theirs
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[<>=~!]", d)[0].replace("-", "_") for d in project["dependencies"]}
    assert {"pyyaml" if name == "yaml" else name for name in libraries} == declared
