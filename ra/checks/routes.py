"""Identity checks over HTTP; what each caller may do stands in `ra.access`.

| route                                   | for                                       |
| --------------------------------------- | ----------------------------------------- |
| POST /v1/applications/{id}/phone        | who opened it, service:operator           |
| POST /v1/applications/{id}/phone/code   | who opened it, service:operator           |
| GET /v1/applications/{id}/checks        | who opened it, officers, service:operator |

Nobody is shown a number or a code, nor what a register answered beyond its word.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field

from ra.acting import Acting
from ra.checks.driver import Checks
from ra.checks.phone import Phone
from ra.checks.store import Check
from ra.workflow import Workflow

_Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class GivePhone(_Wire):
    """A mobile number: 09 and 9 digits; +98 and Persian digits are understood."""

    phone: str = Field(max_length=20)


class GiveCode(_Wire):
    """The code that came to the phone."""

    code: str = Field(max_length=20)


class PhoneView(_Wire):
    """Where the code stands."""

    state: str
    tries_left: int
    expires_at: datetime
    confirmed_at: datetime | None


class CheckView(_Wire):
    """One check: `state` due, answered, gave_up or not_asked; `answer` confirmed, contradicted, unknown or none yet.

    `trouble` is why there was no answer the last time, in a word; `gives_up_at` when silence becomes the answer.
    """

    kind: str
    revision: int
    state: str
    answer: str
    reason: str
    source: str
    attempts: int
    trouble: str
    next_at: datetime | None
    gives_up_at: datetime
    answered_at: datetime | None
    question_sha256: str
    answer_sha256: str


def install(app: FastAPI, workflow: Workflow, checks: Checks) -> None:
    """Add the routes of the table."""

    @app.post("/v1/applications/{application_id}/phone", status_code=202)
    def give_phone(application_id: _Id, body: GivePhone, actor: Acting) -> PhoneView:
        """Give a phone number, or ask for another code."""
        return _phone(checks.give_phone(actor, application_id, body.phone))

    @app.post("/v1/applications/{application_id}/phone/code")
    def confirm_phone(application_id: _Id, body: GiveCode, actor: Acting) -> PhoneView:
        """Type in the code."""
        return _phone(checks.confirm_phone(actor, application_id, body.code))

    @app.get("/v1/applications/{application_id}/checks")
    def list_checks(application_id: _Id, actor: Acting) -> list[CheckView]:
        """What registers were asked about the case, and what they answered; oldest revision first."""
        workflow.get(actor, application_id)
        return [_view(check) for check in checks.store.of(application_id)]


def _phone(phone: Phone) -> PhoneView:
    return PhoneView(
        state=phone.state, tries_left=phone.tries_left, expires_at=phone.expires_at, confirmed_at=phone.confirmed_at
    )


def _view(check: Check) -> CheckView:
    return CheckView(
        kind=check.kind,
        revision=check.revision,
        state=check.state,
        answer=check.status,
        reason=check.reason,
        source=check.source,
        attempts=check.attempts,
        trouble=check.trouble,
        next_at=check.next_at if check.state == "due" else None,
        gives_up_at=check.gives_up_at,
        answered_at=check.answered_at,
        question_sha256=check.question_sha256,
        answer_sha256=check.answer_sha256,
    )
