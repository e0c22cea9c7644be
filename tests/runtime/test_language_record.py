"""A message that is kept is told later as it would have been told at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from runtime.language import Language, Listed, Message, Term, ToldError, terms
from runtime.language_record import from_record, to_record

MESSAGES = {
    "without values": Message("expired"),
    "a number": Message("older than {days} days", days=398),
    "a time": Message("the decision lapsed at {time}", time=datetime(2026, 3, 21, tzinfo=UTC)),
    "names": Message(
        "step {step} is decided by {roles}, not by {person}",
        step=Term("step", "vet"),
        roles=terms("role", ["auditor", "security_officer"], "or"),
        person="o-1",
    ),
    "a message inside": Message("{kind}: {fault}", kind=Term("evidence", "x", "X"), fault=Message("expired")),
    "sentences": Message("{findings}", findings=Listed((Message("expired"), 3), "also")),
    "a text that looks like a record": Message("{reason}", reason='{"template": "expired", "values": {}}'),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_record_says_what_the_message_says(name: str) -> None:
    message = MESSAGES[name]
    again = from_record(to_record(message))
    assert again == message
    assert [again.text(language) for language in Language] == [message.text(language) for language in Language]


def test_an_error_is_kept_as_what_it_tells() -> None:
    kept = from_record(to_record(Message("{fault}", fault=ToldError("expired"))))
    assert kept == Message("{fault}", fault=Message("expired"))


def test_whatever_else_is_kept_as_its_english_text() -> None:
    assert from_record(to_record(Message("{fault}", fault=ValueError("odd")))) == Message("{fault}", fault="odd")


@pytest.mark.parametrize(
    "record", ["", "text", "[]", '"text"', "{}", '{"template": "a"}', '{"list": [], "link": "and"}', '{"term": ["a"]}']
)
def test_what_is_no_record_is_refused(record: str) -> None:
    with pytest.raises(ValueError, match=r"record|Expecting|unpack"):
        from_record(record)


def test_a_record_is_plain_json() -> None:
    assert json.loads(to_record(MESSAGES["a number"])) == {
        "template": "older than {days} days",
        "values": {"days": 398},
    }
