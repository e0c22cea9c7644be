"""Whether a merchant's business day is over, and what is paid for it."""

from __future__ import annotations

from enum import StrEnum


class DayState(StrEnum):
    """State of a merchant's business day; the value is what the database holds."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    """Over, nothing of it is undecided, and gateway and switch have the same totals.

    An advice can be made of it; then it never changes again.
    """
