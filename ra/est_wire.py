"""The JSON of preparing a case for EST."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from ra.wire import Wire


class PrepareEst(Wire):
    """Subject and national code as in `ra.wire.Submit`; the request itself comes by EST."""

    subject: dict[str, Any]
    national_code: str | None = Field(default=None, max_length=10)


class CodeView(Wire):
    """A one-time code, which is shown this once: password of HTTP Basic at `path`, the user is the application."""

    application: str
    code: str = Field(repr=False)
    good_until: datetime
    path: str
