"""Errors over HTTP: RFC 9457 problem details, one shape for every service.

A `Problem` is raised where the refusal happens and rendered in one place. `type` is a stable slug under
`urn:kwbp:problem:`, `detail` is a sentence for people that names what was expected, `clause` the CPS clause or the
protocol check that refused. Input is never echoed: it may hold card data.

`detail` and `title` are in the language that the caller prefers (`runtime.language`), as is every message among the
members of the problem's own; what programs read is the same for everybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from runtime.language import Language, Listed, Message, Term, Text, ToldError, negotiate, text_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:kwbp:problem:"


class Problem(Exception):
    """A refusal or failure that a caller is told about."""

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002  # RFC 9457's own member name
        detail: Text,
        *,
        title: str | None = None,
        clause: str | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(str(detail))
        self.status = status
        self.type = type
        self.title = title or HTTPStatus(status).phrase
        # A sentence without values is its own template: a catalogue may have it.
        self.told = Message(detail) if isinstance(detail, str) else detail
        self.clause = clause
        self.headers = headers or {}
        self.extra = extra
        self.noted = False
        """Nothing more is to be recorded of it: it is in an audit log, or of the transport and belongs in none."""

    @property
    def detail(self) -> str:
        """What happened, in English."""
        return str(self.told)

    def text(self, language: Language) -> str:
        """What happened and the clause that refused, in this language."""
        return _with_clause(text_of(self.told, language), self.clause)

    def spoken(self, language: Language) -> Language:
        """The language in which a reader of `language` is told of it: English where nobody translated it."""
        return self.told.spoken(language)

    def document(self, language: Language = Language.EN) -> dict[str, Any]:
        """The problem as the JSON object that goes over the wire."""
        spoken = self.spoken(language)
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.type,
            "title": self._title(spoken),
            "status": self.status,
            "detail": text_of(self.told, spoken),
        }
        if self.clause is not None:
            body["clause"] = self.clause
        return {**{name: _said(value, language) for name, value in self.extra.items()}, **body}

    def _title(self, language: Language) -> str:
        try:
            known = self.title == HTTPStatus(self.status).phrase
        except ValueError:  # a status of another service's
            known = False
        return Term("status", str(self.status), self.title).text(language) if known else self.title

    def response(self, language: Language = Language.EN) -> Response:
        """The problem as an answer to a reader of `language` (RFC 9110 8.5, 12.5.5)."""
        # Imported here, like the handlers below: clients use this module too, and should not load a web framework.
        from starlette import responses

        answer = responses.Response(
            json.dumps(self.document(language), ensure_ascii=False).encode(),
            self.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )
        answer.headers["Content-Language"] = self.spoken(language)
        answer.headers.add_vary_header("Accept-Language")
        return answer

    @classmethod
    def from_document(cls, status: int, body: dict[str, Any]) -> Problem:
        """Rebuild a problem that another service answered with."""
        known = {"type", "title", "status", "detail", "clause"}
        return cls(
            status,
            str(body.get("type", "unknown")).removeprefix(TYPE_PREFIX),
            str(body.get("detail", "")),
            title=body.get("title"),
            clause=body.get("clause"),
            **{key: value for key, value in body.items() if key not in known},
        )

    def __str__(self) -> str:
        return _with_clause(self.detail, self.clause)


def _with_clause(sentence: str, clause: str | None) -> str:
    return f"{sentence} ({clause})" if clause else sentence


def _said(value: Any, language: Language) -> Any:
    if isinstance(value, Message | Term | Listed | ToldError):
        return value.text(language)
    if isinstance(value, dict):
        return {key: _said(part, language) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_said(part, language) for part in value]
    return value


def reader_of(scope: Mapping[str, Any]) -> Language:
    """The language that the caller of an ASGI scope prefers."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    found = [value.decode("latin-1") for name, value in headers if name == b"accept-language"]
    return negotiate(",".join(found)) if found else Language.EN


def install(app: Starlette) -> None:
    """Make `app` answer every error as problem details."""
    from runtime.problem_handlers import HANDLERS

    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
