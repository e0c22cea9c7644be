"""How often something may be done: so many times at once, and once more after each while.

A bucket is one instant: when it would be full again if nothing more were taken. A bucket that is full needs no memory,
so whoever keeps many of them can forget those without loss. Pure: the time is an argument.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

NONE = timedelta(0)


class Rate(BaseModel):
    """`burst` times at once, and one more `every` so long (ISO 8601 duration)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    burst: int = Field(ge=1)
    every: timedelta = Field(gt=NONE)


def take(rate: Rate, full_at: datetime | None, now: datetime) -> tuple[datetime, timedelta]:
    """Take one out of the bucket that is full at `full_at` (None: it is).

    Returns when it is full now, and zero; or the same instant, and how long to wait if it is empty. A clock that went
    back makes nobody wait longer than an empty bucket takes to fill.
    """
    capacity = rate.burst * rate.every
    filling = now if full_at is None else min(max(full_at, now), now + capacity)
    wait = filling + rate.every - now - capacity
    return (filling, wait) if wait > NONE else (filling + rate.every, NONE)


def whole_seconds(wait: timedelta) -> int:
    """The wait as Retry-After says it (RFC 9110 10.2.3): whole seconds, at least one."""
    return max(1, -(-wait // timedelta(seconds=1)))
