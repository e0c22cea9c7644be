"""DE 39: only 00 is an approval, what is not understood is unknown, every AuthCode has its number."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shetab.response_codes import ResponseCodes

CODES = ResponseCodes.load()


def test_only_00_approves() -> None:
    assert [rc for rc, code in CODES.codes.items() if code.outcome == "approved"] == ["00"]
    assert [rc for rc, code in CODES.codes.items() if code.auth_code == "approved"] == ["00"]


@pytest.mark.parametrize(
    ("rc", "auth_code"),
    [
        ("00", 0),
        ("01", 4),
        ("02", 4),
        ("03", 16),
        ("05", 2),
        ("12", 7),
        ("13", 5),
        ("30", 8),
        ("51", 2),
        ("54", 6),
        ("55", 2),
        ("63", 8),
        ("68", 3),
        ("91", 3),
        ("92", 8),
        ("96", 8),
    ],
)
def test_auth_codes(rc: str, auth_code: int) -> None:
    assert CODES.auth_code(rc) == auth_code


@pytest.mark.parametrize("rc", ["", "ZZ", "99", "000", "٠٠"])
def test_an_unlisted_code_is_unknown_and_raises_an_alarm(rc: str) -> None:
    code = CODES.of(rc)
    assert (code.outcome, code.reversal, code.alarm) == ("unknown", "repeat", True)
    assert CODES.auth_code(rc) == 3


def test_unknown_outcomes_are_never_reported_as_declined() -> None:
    for code in CODES.codes.values():
        if code.outcome == "unknown":
            assert code.auth_code == "noReply"


def test_a_reversal_ends_at_approved_not_found_and_duplicate() -> None:
    assert {rc for rc, code in CODES.codes.items() if code.reversal == "done"} == {"00", "25", "94"}


def test_a_name_without_number_is_refused() -> None:
    line = "{meaning: m, auth_code: maybe, outcome: declined, retry: never, reversal: manual}"
    with pytest.raises(ValidationError, match="has no number"):
        ResponseCodes.from_yaml(f'{{auth_codes: {{declined: 2}}, unlisted: {line}, codes: {{"05": {line}}}}}')
