"""Limits of a key: how often in all, how fast, and from when to when it may be used.

A template states the limits of its keys, and a key may have its own over them. Everything here is told the time and
how often the key was used, and keeps nothing but the token buckets, so that tests turn the clock as they like. How
often a key was used is read back from the audit journal at start (`hsm_service.ledger`): a restart lifts no limit.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from runtime.problems import Problem

if TYPE_CHECKING:
    from hsm_service.kept_key import Key

MIN_RETRY_SECONDS: Final = 1
"""The smallest Retry-After that the header can say (RFC 9110 10.2.3)."""


class Limits(BaseModel):
    """Each is None where there is no limit. A key's own limits hold over its template's, field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uses: int | None = Field(default=None, ge=0, description="operations in all, a version")
    rate: float | None = Field(default=None, gt=0, description="operations a second, in the long run")
    burst: int | None = Field(default=None, ge=1, description="operations at once; by default one second's worth")
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.not_before is not None and self.not_after is not None and self.not_after <= self.not_before:
            raise ValueError("not_after lies after not_before")
        return self

    def over(self, template: Limits) -> Limits:
        """These limits where they say something (None lifts the template's), the template's where they do not."""
        return Limits.model_validate({**_stated(template), **_stated(self)})

    def to_json(self) -> str | None:
        """What is stated here, for a database row; None for nothing."""
        return self.model_dump_json(exclude_unset=True) if self.model_fields_set else None

    @property
    def capacity(self) -> float:
        """How many operations the bucket holds."""
        return float(self.burst if self.burst is not None else max(1, math.ceil(self.rate or 1)))


def _stated(limits: Limits) -> dict[str, object]:
    return {name: getattr(limits, name) for name in limits.model_fields_set}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: `level` operations could be done at once at `at`."""

    level: float
    at: datetime

    def refilled(self, limits: Limits, now: datetime) -> Bucket:
        """The bucket at `now`; a clock that went back adds nothing."""
        passed = max(0.0, (now - self.at).total_seconds())
        return Bucket(min(limits.capacity, self.level + passed * (limits.rate or 0.0)), max(now, self.at))


def take(bucket: Bucket | None, limits: Limits, now: datetime, count: int = 1) -> tuple[Bucket, float]:
    """`count` operations out of the bucket (None: a full one): what is left, and the seconds to wait, 0 if it is done.

    A batch larger than the bucket goes through when the bucket is full, and leaves a debt that later ones wait for.
    """
    full = limits.capacity
    filled = Bucket(full, now) if bucket is None else bucket.refilled(limits, now)
    needed = min(float(count), full)
    if limits.rate is not None and filled.level < needed:
        return filled, (needed - filled.level) / limits.rate
    return Bucket(filled.level - count, filled.at), 0.0


def check_window(name: str, limits: Limits, now: datetime, certificate_ends: datetime | None) -> None:
    """Problem 403 unless `now` lies within the key's validity, and within its certificate's if it has one."""
    if limits.not_before is not None and now < limits.not_before:
        raise Problem(403, "key-not-yet-valid", f"key {name} may be used from {limits.not_before.isoformat()}")
    if limits.not_after is not None and now > limits.not_after:
        raise Problem(403, "key-expired", f"key {name} might be used until {limits.not_after.isoformat()}")
    if certificate_ends is not None and now > certificate_ends:
        raise Problem(
            403,
            "certificate-expired",
            f"the certificate of key {name} ended at {certificate_ends.isoformat()}",
            clause="RFC 5280 4.1.2.5",
        )


@dataclass
class Meter:
    """Counts the uses of every version and lets through what its limits allow. Safe for threads."""

    before: Callable[[str, int], int]
    """How often a version (name, version) was used before this process began."""
    _used: dict[tuple[str, int], int] = field(default_factory=dict)
    _buckets: dict[tuple[str, int], Bucket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def uses(self, name: str, version: int) -> int:
        """In how many operations the version was used, ever."""
        return self.before(name, version) + self._used.get((name, version), 0)

    def admit_key(self, key: Key, now: datetime, count: int = 1) -> None:
        """`admit` for a key in custody."""
        self.admit(key.row.name, key.row.version, key.limits, now, count)

    def admit(self, name: str, version: int, limits: Limits, now: datetime, count: int = 1) -> None:
        """Counts `count` operations, or raises Problem 403 `key-used-up`, or 429 `key-rate` with Retry-After.

        What is admitted counts even if it fails afterwards: the token may have done it.
        """
        key = (name, version)
        with self._lock:
            self._check_uses(name, version, limits, count)
            if limits.rate is not None:
                bucket, wait = take(self._buckets.get(key), limits, now, count)
                self._buckets[key] = bucket
                if wait > 0:
                    seconds = max(MIN_RETRY_SECONDS, math.ceil(wait))
                    raise Problem(
                        429,
                        "key-rate",
                        f"key {name} may be used {limits.rate:g} times a second",
                        headers={"Retry-After": str(seconds)},
                    )
            self._used[key] = self._used.get(key, 0) + count

    def check_key(self, key: Key, count: int = 1) -> None:
        """Problem 403 `key-used-up` if `count` operations more are too many for a key in custody; none is counted."""
        self._check_uses(key.row.name, key.row.version, key.limits, count)

    def _check_uses(self, name: str, version: int, limits: Limits, count: int) -> None:
        if limits.uses is not None and self.uses(name, version) + count > limits.uses:
            raise Problem(403, "key-used-up", f"key {name} may be used {limits.uses} times, and was")
