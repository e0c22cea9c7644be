"""The JSON of notices over the wire, for the application and the client alike."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from ra.notices.kinds import Channel, NoticeState
from ra.wire import Wire


class NoticeView(Wire):
    """A notice in the outbox; of an address as much as tells an officer whose it is."""

    id: str
    event: str
    channel: Channel
    recipient: str
    language: str
    application_id: str | None
    at: datetime
    state: NoticeState
    next_at: datetime
    attempts: int
    ended_at: datetime | None
    trouble: str | None


class RetryNotices(Wire):
    """Deliver an undelivered notice after all; without `id` all of them."""

    id: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")


class RetriedView(Wire):
    """How many wait again."""

    count: int
