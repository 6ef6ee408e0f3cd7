"""A mounted Secret, changed as the kubelet changes it."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4


class MountedSecret:
    """A folder of files that is swapped as a whole, behind a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def write(self, **values: str) -> None:
        """Have the folder show exactly ``values``."""
        version = self.folder / f"..{uuid4().hex}"
        version.mkdir()
        for name, value in values.items():
            (version / name).write_text(value)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.rename(self.folder / "..data")
        for name in values:
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in values:
                link.unlink()
