"""The name of a process among those that share a database: drawn once, and kept beside what it alone writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_BYTES = 16


def replica_name(path: Path, rng: Callable[[int], bytes]) -> str:
    """The name in the file at `path`, which is made, on the disk, if it is not there; `rng(n)` gives n random bytes.

    Raises ValueError for a file that holds no name.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        new = path.with_suffix(".new")
        with new.open("w", encoding="ascii") as file:
            file.write(rng(_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    name = path.read_text("ascii").strip()
    if len(name) != 2 * _BYTES or not name.isalnum():
        raise ValueError(f"{path.name} does not hold the name of a replica")
    return name
