"""Uptimes for tests whose clock stands for the time that passes: what it says is how long the machine has run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from runtime.uptime import Uptime

BOOT = "test"


def following(clock: Callable[[], datetime]) -> Uptime:
    """An uptime that goes on as `clock` does."""
    return Uptime(BOOT, lambda: clock().timestamp())
