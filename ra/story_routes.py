"""Stories over HTTP, by serial number and by application; and which application somebody means by its first digits."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path

from ra import story
from ra.access import Act, require
from ra.acting import Acting
from ra.application_ids import beginning_with
from ra.story_wire import StoryView
from ra.workflow import Workflow

ApplicationId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Prefix = Annotated[str, Path(pattern=r"^[0-9a-f]{4,32}$")]
Serial = Annotated[str, Path(pattern=r"^[0-9A-Fa-f]{1,40}$")]


def install(app: FastAPI, workflow: Workflow) -> None:
    """Add the routes to the application of a registration authority."""

    @app.get("/v1/certificates/{serial}/story")
    def explain(serial: Serial, actor: Acting) -> StoryView:
        """The story of a certificate: rules, evidence, who decided what and when, the CA's record."""
        return story.of_certificate(workflow, actor, serial.lower().lstrip("0") or "0")

    @app.get("/v1/applications/{application_id}/story")
    def explain_application(application_id: ApplicationId, actor: Acting) -> StoryView:
        """The story of a case, also of one that never came to a certificate."""
        return story.of_application(workflow, actor, application_id)

    @app.get("/v1/application-ids/{prefix}")
    def ids_beginning_with(prefix: Prefix, actor: Acting) -> list[str]:
        """The ids of the applications that begin so, at most ten: for officers, who type the first digits."""
        require(actor, Act.REVIEW)
        return beginning_with(workflow.store.engine, prefix)
