"""Processor time of the services of an installation, from Linux: seconds since each began."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Final

TOKENS: Final = "tokens"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_HSM: Final = "hsm"


def service_seconds(home: Path) -> dict[str, float]:
    """User and system time of every service of `home` that was started by `kwbp serve`, by its name.

    The processes in which the HSM service has its tokens are together `TOKENS`.
    """
    services: dict[int, str] = {}
    processes: dict[int, tuple[int, float]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        number = int(process.name)
        processes[number] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
        if words[-5:-3] == [b"--home", os.fsencode(home)] and words[-3] == b"serve":
            services[number] = words[-2].decode()
    found: dict[str, float] = defaultdict(float)
    for number, (parent, seconds) in processes.items():
        if number in services:
            found[services[number]] += seconds
        elif services.get(parent) == _HSM:
            found[TOKENS] += seconds
    return dict(found)
