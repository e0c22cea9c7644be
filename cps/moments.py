"""Times that others state: what comes after one is never beyond what a time can be.

Evidence and certificates in a case state times of any year up to 9999. Whoever adds a span of the statement to one gets
a moment, and no exception: a case with such a time is judged like any other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

LAST: Final = datetime.max.replace(microsecond=0, tzinfo=UTC)
"""The last second that there is."""


def after(moment: datetime, span: timedelta) -> datetime:
    """`span` (not negative) after an aware moment in UTC, or the last second if that is later."""
    return moment + span if moment <= LAST - span else LAST
