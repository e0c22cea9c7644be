"""What another system is told: reads as it was written, in one form, and no field holds free text."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pki.errors import NoticeError
from pki.notice import FIELDS, Notice, check_fields, written

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
FIELDS_OF_ONE = {"application": "0f" * 16, "clauses": "CPS 4.2.1, CPS 6.1.5", "due": written(NOON)}
NOTICE = Notice("9c" * 16, "returned", NOON, NOON + timedelta(seconds=2), 1, FIELDS_OF_ONE)


def reason(content: bytes) -> str:
    with pytest.raises(NoticeError) as refused:
        Notice.from_json(content)
    return refused.value.reason


def test_it_reads_as_it_was_written() -> None:
    assert Notice.from_json(NOTICE.to_json()) == NOTICE


def test_no_field_is_unknown_or_holds_what_a_person_wrote() -> None:
    planted = ["6037701689095443", "0499370899", "IR820540102680020817909002", "a sentence", "", "\u06f1\u06f2", "a\nb"]
    for name in FIELDS:
        for value in planted:
            if name == "serials" and value.isascii() and value.isdecimal():
                continue  # a serial number is hexadecimal of up to 40 digits, and is taken from a certificate alone
            with pytest.raises(NoticeError, match="bad_field"):
                check_fields({name: value})
    for fields in ({"note": "x"}, {"count": 1}):
        with pytest.raises(NoticeError, match="bad_field"):
            check_fields(fields)


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"fields": {"reason": "6037701689095443"}}, "bad_field"),
        ({"id": "9c"}, "bad_member"),
        ({"event": "Returned!"}, "bad_member"),
        ({"attempt": 0}, "bad_member"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], slug: str) -> None:
    assert reason(replace(NOTICE, **changes).to_json()) == slug


@pytest.mark.parametrize(
    "changes", [{"attempt": "1"}, {"attempt": True}, {"fields": []}, {"at": 1}, {"at": "2027-03-01"}, {"id": None}]
)
def test_a_member_of_another_type_is_malformed(changes: dict[str, Any]) -> None:
    document = {**json.loads(NOTICE.to_json()), **changes}
    assert reason(json.dumps(document).encode()) == "malformed"


def test_one_form_only() -> None:
    content = NOTICE.to_json()
    document = json.loads(content)
    assert reason(content + b" ") == "not_canonical"
    assert reason(json.dumps({**document, "version": 2}, sort_keys=True, separators=(",", ":")).encode()) == (
        "not_canonical"
    )
    assert reason(json.dumps({**document, "x": 1}, sort_keys=True, separators=(",", ":")).encode()) == "not_canonical"
    assert reason(content[:-1] + b',"version":1}') == "not_canonical"
    for other in (b"", b"[]", b"\xff", b"{}", b"[" * 3000):
        assert reason(other) == "malformed"
    assert reason(b" " * 4097) == "too_long"
