"""When a call of a client is made again, and how long it waits before: pure, shared by both clients.

    answer 429 or 503 with Retry-After   after that time, whatever was asked: the service says that waiting helps
    any other answer                     never. Without Retry-After, waiting does not help (a PIN was refused …), and
                                         what was refused once is refused again
    no connection was made               after a pause, whatever was asked: the service has not seen it
    the answer was lost                  only what may be asked twice: reads, and calls under an Idempotency-Key

A pause grows with each attempt and is drawn at random, so that callers who were turned away together do not come back
together. One layer of a system retries, and the others do not, or a service that is down is asked the product of all
attempts: whoever has a schedule of its own (the gateway, which answers a payment in seconds) takes `ONCE`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

TURNED_AWAY: Final = frozenset({429, 503})
"""Statuses whose Retry-After is followed (RFC 9110 10.2.3, RFC 6585 4)."""
_LONGEST_HEADER: Final = 32  # characters of a Retry-After


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. Times are seconds."""

    attempts: int
    """Requests in all, the first included."""
    deadline: float
    """No attempt begins later than this after the first; the last may then take its own time-out."""
    first_pause: float = 0.1
    longest_pause: float = 2.0
    keyed: bool = True
    """Whether what must not be done twice is sent under an Idempotency-Key, so that it can be repeated when its answer
    was lost. It costs the service a write for each call."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.deadline, self.first_pause, self.longest_pause) < 0:
            raise ValueError("a policy has at least one attempt, and times that are not negative")

    def pause(self, attempt: int, spent: float, draw: float, retry_after: float | None = None) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) failed, `spent` seconds after the first began.

        None: there is no further attempt. `draw` is random in [0, 1); `retry_after` what the service asked for, which
        is a least time.
        """
        if attempt >= self.attempts:
            return None
        drawn = draw * min(self.longest_pause, self.first_pause * 2 ** (attempt - 1))
        pause = drawn if retry_after is None else retry_after + drawn
        return pause if spent + pause <= self.deadline else None


ONCE: Final = RetryPolicy(attempts=1, deadline=0)
"""For callers with a schedule of their own."""
PATIENT: Final = RetryPolicy(attempts=4, deadline=10)
"""For callers without: outlives a token or a service that is started again."""
UNKEYED: Final = RetryPolicy(attempts=4, deadline=10, keyed=False)
"""The same for those who sign with every payment, and would rather sign anew than have each answer kept."""
STARTING: Final = RetryPolicy(attempts=40, deadline=20, keyed=False)
"""For the first call of a service that is started beside the HSM service, which takes longest: it tests its tokens."""


def retry_after(status: int, headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds after which the service wants to be asked again; None if it does not say so (RFC 9110 10.2.3).

    `headers` are looked up as `retry-after`.
    """
    text = headers.get("retry-after", "").strip() if status in TURNED_AWAY else ""
    if not text or len(text) > _LONGEST_HEADER:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, math.ceil((moment - (now or datetime.now(UTC))).total_seconds()))
