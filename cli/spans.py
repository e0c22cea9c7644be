"""Times as people say them: how old something is, how long it still lasts, by how much it is late."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from runtime.language import Message

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_ABOUT_HOURS: Final = 10 * _HOUR  # from here on nobody asks for minutes
_ABOUT_DAYS: Final = 3 * _DAY  # and from here on nobody asks for hours


def span(length: timedelta) -> Message:
    """A length of time, as exactly as it matters; less than nothing is nothing."""
    seconds = max(0, int(length.total_seconds()))
    minutes, hours = seconds // _MINUTE, (seconds + _HOUR // 2) // _HOUR
    if seconds < _MINUTE:
        return Message("under 1 min")
    if seconds < _HOUR:
        return Message("{minutes} min", minutes=minutes)
    if seconds < _ABOUT_HOURS and minutes % 60:
        return Message("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)
    if hours < _DAY // _HOUR:
        return Message("{hours} h", hours=hours)
    if seconds < _ABOUT_DAYS and hours % 24:
        return Message("{days} d {hours} h", days=hours // 24, hours=hours % 24)
    return Message("{days} d", days=(seconds + _DAY // 2) // _DAY)


def until(end: datetime, now: datetime) -> Message:
    """How long until `end`, or by how much it is over."""
    return Message("{span} late", span=span(now - end)) if now >= end else Message("in {span}", span=span(end - now))


def since(start: datetime, now: datetime) -> Message:
    """How long ago."""
    return Message("{span} ago", span=span(now - start))
