"""A clock that nobody sets: how long this machine has run, and which of its starts that is counted from.

The clock on the wall may be wrong by minutes, or be set while work is under way; what must last a promised time is
measured by this one. Processes of one machine share it, and so does a process with the one that it was before a
restart. It goes on while the machine sleeps (CLOCK_BOOTTIME).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Uptime:
    """`boot` names the start of the machine, `seconds` tells how long ago it was."""

    boot: str
    seconds: Callable[[], float]

    @classmethod
    def of_this_machine(cls, boot_id: Path = _BOOT_ID) -> Self:
        """By the kernel. Where it names no start of its own, no other process is taken to share this clock."""
        try:
            boot = boot_id.read_text("ascii").strip()
        except OSError:
            boot = ""
        return cls(boot or secrets.token_hex(16), _since_boot)


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
