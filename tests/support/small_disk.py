"""A file system that a test can fill: small, in memory, and of its own.

Mounted where mounting is allowed (as root, with CAP_SYS_ADMIN); elsewhere `/dev/shm`, if that is small, as containers
have it. Where there is neither, the test is skipped and says so: a limit on the size of files (RLIMIT_FSIZE) is no full
disk to a database, which then may still write other files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

_SHARED: Final = Path("/dev/shm")
_SMALL: Final = 512 * 2**20
_PIECE: Final = 2**20


@dataclass(frozen=True)
class SmallDisk:
    """`folder` is on it."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (_PIECE, 4096, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:  # ENOSPC
                    continue

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """An empty one of this size, for a service of any user."""
    folder = Path(tempfile.mkdtemp(prefix="kwbp-disk-"))
    mounted = _mount(folder, megabytes)
    if not mounted:
        folder.rmdir()
        if not _SHARED.is_dir() or shutil.disk_usage(_SHARED).total > _SMALL:
            pytest.skip("no file system may be mounted here, and /dev/shm is none that a test may fill")
        folder = Path(tempfile.mkdtemp(prefix="kwbp-disk-", dir=_SHARED))
    folder.chmod(0o711)
    try:
        yield SmallDisk(folder)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(folder: Path, megabytes: int) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    asked = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "kwbp-test", folder]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0
