"""Identity checks as they go over the wire: no number, no code, and of an answer its word alone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

from ra.wire import Wire

if TYPE_CHECKING:  # clients read these, and have no use for a database
    from ra.checks.phone import Phone
    from ra.checks.store import Check


class GivePhone(Wire):
    """A mobile number: 09 and 9 digits; +98 and Persian digits are understood."""

    phone: str = Field(max_length=20)


class GiveCode(Wire):
    """The code that came to the phone."""

    code: str = Field(max_length=20)


class PhoneView(Wire):
    """Where the code stands."""

    state: str
    tries_left: int
    expires_at: datetime
    confirmed_at: datetime | None

    @classmethod
    def of(cls, phone: Phone) -> PhoneView:
        """A phone of the database, without its number."""
        return cls(**{name: getattr(phone, name) for name in cls.model_fields})


class CheckView(Wire):
    """One check: `state` due, answered, gave_up or not_asked; `answer` confirmed, contradicted, unknown or none yet.

    `trouble` is why there was no answer the last time, in a word; `gives_up_at` when silence becomes the answer.
    `answer_sha256` is for officers and empty for others: with it, names that a register told could be guessed.
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

    @classmethod
    def of(cls, check: Check, *, reviews: bool) -> CheckView:
        """A check of the database, for an officer (`reviews`) or for an applicant."""
        known = {name: getattr(check, name) for name in cls.model_fields if hasattr(check, name)}
        if not reviews:
            known["answer_sha256"] = ""
        return cls(**{**known, "answer": check.status, "next_at": check.next_at if check.state == "due" else None})
