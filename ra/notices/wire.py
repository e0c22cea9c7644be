"""The JSON of notices over the wire. An address is shown as far as an officer needs it to know whose it is."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from ra.notices.directory import MAIL
from ra.notices.outbox import NoticeState, StoredNotice
from ra.wire import Wire


class NoticeView(Wire):
    """A notice in the outbox."""

    id: str
    event: str
    channel: Literal["mail", "webhook"]
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


def view(notice: StoredNotice) -> NoticeView:
    """What officers see of a notice."""
    return NoticeView(
        id=notice.id,
        event=notice.event,
        channel=notice.channel,
        recipient=_shown(notice.recipient) if notice.channel == MAIL else notice.recipient,
        language=notice.language.value,
        application_id=notice.application_id,
        at=notice.at,
        state=notice.state,
        next_at=notice.next_at,
        attempts=notice.attempts,
        ended_at=notice.ended_at,
        trouble=notice.trouble,
    )


def _shown(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}…{at}{domain}" if at else ""
