"""The JSON of our interface to a register, version 1, and what the facts in it mean for a question.

    POST <register>/v1/questions/<kind>        Idempotency-Key: <key>
    {"version": 1, "fields": {"iban": "IR…", "name": "…"}}

    200 {"version": 1, "key": "<key>", "found": true, "names": ["…"], "status": "active"}
    200 {"version": 1, "key": "<key>", "found": false}         there is nothing of this number
    200 {"version": 1, "key": "<key>", "found": null}          the register cannot tell

    POST <gateway>/v1/messages                 Idempotency-Key: <key>
    {"version": 1, "to": "09…", "text": "…"}

    202 {"version": 1, "key": "<key>", "accepted": true}

| kind             | fields                          | names          | status                               |
| ---------------- | ------------------------------- | -------------- | ------------------------------------ |
| national_code    | national_code, name             | of the person  | active, deceased                     |
| company_register | name, company_id if it is known | of the company | active, dissolved, suspended         |
| iban_owner       | iban, name                      | of the owners  | active, closed, blocked              |

A register tells facts, and the RA compares: names folded (`shetab.names`), so that it does not depend on how each
register compares them. A repeat of a key is answered as the first time. Any other status code, a body over 16 kB, a
member that is not in the table or missing, another key: no answer.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ra.checks.connector import Answer, NoAnswerError, Question
from shetab.names import same_name

VERSION: Final = 1
LARGEST: Final = 16 * 1024  # bytes of an answer
KEY_HEADER: Final = "Idempotency-Key"
_ACTIVE: Final = "active"

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Facts(_Strict):
    """What a register knows."""

    version: Literal[1]
    key: str
    found: bool | None
    names: Annotated[list[_Name], Field(max_length=20)] = Field(default_factory=list)
    status: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,29}$")] | None = None


class Accepted(_Strict):
    """A message is on its way."""

    version: Literal[1]
    key: str
    accepted: Literal[True]


def read_facts(body: bytes, question: Question) -> Answer:
    """What the register's answer means for the question. Raises NoAnswerError if it is not one to it."""
    try:
        facts = Facts.model_validate_json(body)
    except ValidationError:
        raise NoAnswerError("garbage") from None
    if facts.key != question.key:
        raise NoAnswerError("answer-to-another-question")
    if facts.found is None:
        return Answer("unknown", "", body)
    if not facts.found:
        return Answer("contradicted", "not_found", body)
    if facts.status is None or not facts.names:
        raise NoAnswerError("garbage")  # found, and nothing is said of it
    if facts.status != _ACTIVE:
        return Answer("contradicted", facts.status, body)
    if not same_name(question.fields["name"], facts.names):
        return Answer("contradicted", "name_differs", body)
    return Answer("confirmed", "", body)


def read_accepted(body: bytes, key: str) -> None:
    """Raises NoAnswerError unless the gateway took the message with this key."""
    try:
        taken = Accepted.model_validate_json(body)
    except ValidationError:
        raise NoAnswerError("garbage") from None
    if taken.key != key:
        raise NoAnswerError("answer-to-another-question")
