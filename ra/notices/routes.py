"""Routes for officers: what was not delivered, and to have it delivered after all.

| route                 | for                        |
| --------------------- | -------------------------- |
| GET /v1/notices       | officers, service:operator |
| POST /v1/notices/retry | officers, service:operator |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query

from ra.access import Act, Actor, require
from ra.notices.outbox import NoticeState
from ra.notices.service import Notices
from ra.notices.wire import NoticeView, RetriedView, RetryNotices, view


def install(app: FastAPI, notices: Notices, acting: Callable[..., Any]) -> None:
    """Add the routes; `acting` is the dependency that says who is calling."""

    @app.get("/v1/notices")
    def list_notices(
        actor: Annotated[Actor, Depends(acting)], state: Annotated[list[NoticeState] | None, Query()] = None
    ) -> list[NoticeView]:
        """Notices, newest first, at most 200; without a state those that could not be delivered."""
        require(actor, Act.REVIEW)
        return [view(each) for each in notices.outbox.listing(state or [NoticeState.UNDELIVERED])]

    @app.post("/v1/notices/retry")
    def retry_notices(body: RetryNotices, actor: Annotated[Actor, Depends(acting)]) -> RetriedView:
        """Deliver after all what was given up."""
        require(actor, Act.REVIEW)
        return RetriedView(count=notices.retry(body.id))
