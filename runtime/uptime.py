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
_OFFSETS: Final = Path("/proc/self/timens_offsets")


@dataclass(frozen=True, slots=True)
class Uptime:
    """`boot` names the start of the machine, `seconds` tells how long ago it was."""

    boot: str
    seconds: Callable[[], float]

    @classmethod
    def of_this_machine(cls, boot_id: Path = _BOOT_ID, offsets: Path = _OFFSETS) -> Self:
        """By the kernel. Where it names no start of its own, no other process is taken to share this clock.

        Nor is one of the same start that counts from elsewhere: a container may have an uptime set apart by an offset.
        """
        try:
            boot = boot_id.read_text("ascii").strip()
        except OSError:
            boot = ""
        return cls(boot + _set_apart(offsets) if boot else secrets.token_hex(16), _since_boot)


def _set_apart(offsets: Path) -> str:
    """By how much CLOCK_BOOTTIME differs here from the machine's own (time_namespaces(7)); nothing, if it does not."""
    try:
        lines = [line.split() for line in offsets.read_text("ascii").splitlines()]
    except OSError:  # a kernel without them
        return ""
    own = [offset for name, *offset in filter(None, lines) if name == "boottime" and any(map(int, offset))]
    return "".join(f" {'.'.join(offset)}" for offset in own)


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
