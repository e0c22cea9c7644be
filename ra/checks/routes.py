"""Identity checks over HTTP; what each caller may do stands in `ra.access`.

| route                                   | for                                       |
| --------------------------------------- | ----------------------------------------- |
| POST /v1/applications/{id}/phone        | who opened it, service:operator           |
| POST /v1/applications/{id}/phone/code   | who opened it, service:operator           |
| GET /v1/applications/{id}/checks        | who opened it, officers, service:operator |

Nobody is shown a number or a code, nor what a register answered beyond its word.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path

from ra.acting import Acting
from ra.checks.driver import Checks
from ra.checks.views import CheckView, GiveCode, GivePhone, PhoneView
from ra.workflow import Workflow

_Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


def install(app: FastAPI, workflow: Workflow, checks: Checks) -> None:
    """Add the routes of the table."""

    @app.post("/v1/applications/{application_id}/phone", status_code=202)
    def give_phone(application_id: _Id, body: GivePhone, actor: Acting) -> PhoneView:
        """Give a phone number, or ask for another code."""
        return PhoneView.of(checks.give_phone(actor, application_id, body.phone))

    @app.post("/v1/applications/{application_id}/phone/code")
    def confirm_phone(application_id: _Id, body: GiveCode, actor: Acting) -> PhoneView:
        """Type in the code."""
        return PhoneView.of(checks.confirm_phone(actor, application_id, body.code))

    @app.get("/v1/applications/{application_id}/checks")
    def list_checks(application_id: _Id, actor: Acting) -> list[CheckView]:
        """What registers were asked about the case, and what they answered; oldest revision first."""
        workflow.get(actor, application_id)
        return [CheckView.of(check, reviews=actor.reviews) for check in checks.store.of(application_id)]
