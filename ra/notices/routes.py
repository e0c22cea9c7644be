"""Routes for officers: what was not delivered, and to have it delivered after all.

| route                  | for                        |
| ---------------------- | -------------------------- |
| GET /v1/notices        | officers, service:operator |
| POST /v1/notices/retry | officers, service:operator |
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query

from ra.access import Act, require
from ra.acting import Acting
from ra.notices.kinds import MAIL, NoticeState
from ra.notices.outbox import StoredNotice
from ra.notices.service import Notices
from ra.notices.wire import NoticeView, RetriedView, RetryNotices


def install(app: FastAPI, notices: Notices) -> None:
    """Add the routes to the application of the RA."""

    @app.get("/v1/notices")
    def list_notices(actor: Acting, state: Annotated[list[NoticeState] | None, Query()] = None) -> list[NoticeView]:
        """Notices, newest first, at most 200; without a state those that could not be delivered."""
        require(actor, Act.REVIEW)
        return [_view(each) for each in notices.outbox.listing(state or [NoticeState.UNDELIVERED])]

    @app.post("/v1/notices/retry")
    def retry_notices(body: RetryNotices, actor: Acting) -> RetriedView:
        """Deliver after all what was given up."""
        require(actor, Act.REVIEW)
        return RetriedView(count=notices.retry(body.id))


def _view(notice: StoredNotice) -> NoticeView:
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
