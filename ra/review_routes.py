"""Orders that one officer gave alone, over HTTP: the list, and the signed review of another officer.

| route                            | for                        |
| -------------------------------- | -------------------------- |
| GET /v1/reviews                  | officers, service:operator |
| POST /v1/reviews/{order_sha256}  | officers, service:operator |
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path

from ra.access import Act, require
from ra.acting import Acting
from ra.reviews import ReviewRecord
from ra.wire import PostReview, ReviewView
from ra.workflow import Workflow

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


def install(app: FastAPI, workflow: Workflow) -> None:
    """Add the routes."""

    @app.get("/v1/reviews")
    def list_reviews(actor: Acting) -> list[ReviewView]:
        """Orders that nobody has reviewed yet, the most urgent first, at most 200."""
        require(actor, Act.REVIEW)
        return [_view(record) for record in workflow.reviews.open()]

    @app.post("/v1/reviews/{order_sha256}", status_code=201)
    def review(order_sha256: Digest, body: PostReview, actor: Acting) -> ReviewView:
        """Hand in the review of an order."""
        return _view(workflow.reviews.review(actor, order_sha256, body.review))


def _view(record: ReviewRecord) -> ReviewView:
    return ReviewView(
        order_sha256=record.order_sha256,
        issuer=record.issuer,
        serial=record.serial,
        reason=record.reason,
        ordered_by=record.ordered_by,
        order=record.order_cms,
        due_at=record.due_at,
        judgement=record.judgement,
        reviewed_by=record.reviewed_by,
        reviewed_at=record.reviewed_at,
        review=record.cms,
    )
