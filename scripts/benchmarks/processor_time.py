"""Processor time of the services of an installation, from Linux: seconds since each began."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def service_seconds(home: Path) -> dict[str, float]:
    """User and system time of every service of `home` that was started by `kwbp serve`, by its name."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if words[-5:-3] == [b"--home", os.fsencode(home)] and words[-3] == b"serve":
            found[words[-2].decode()] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found
