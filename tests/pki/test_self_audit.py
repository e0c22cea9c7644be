"""What is signed about a self-audit: reads as it was written; each field that cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pki import self_audit
from pki.der import encode
from pki.errors import DerError
from pki.self_audit import SelfAudit, _SelfAudit, _time

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUDIT = SelfAudit(NOON, NOON - timedelta(days=1), NOON, 40, 20, 1, b"\1" * 32, b"\2" * 32)


def test_it_reads_as_it_was_written() -> None:
    assert SelfAudit.from_der(AUDIT.to_der()) == AUDIT
    assert SelfAudit.from_der(replace(AUDIT, made_at=NOON + timedelta(microseconds=9)).to_der()) == AUDIT


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": NOON + timedelta(seconds=1)},
        {"until": NOON + timedelta(seconds=1)},
        {"made_at": NOON - timedelta(seconds=1)},
        {"sampled": 41},
        {"sampled": -1},
        {"findings": -1},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DerError):
        SelfAudit.from_der(replace(AUDIT, **wrong).to_der())


def test_another_version_or_length_is_refused() -> None:
    fields = {
        "made_at": _time(NOON), "since": _time(NOON), "until": _time(NOON), "issued": 0, "sampled": 0, "findings": 0,
        "sample_sha256": b"\0" * 32, "report_sha256": b"\0" * 32,
    }  # fmt: skip
    SelfAudit.from_der(encode(_SelfAudit(version=self_audit.VERSION, **fields)))  # type: ignore[arg-type]
    with pytest.raises(DerError, match="version"):
        SelfAudit.from_der(encode(_SelfAudit(version=2, **fields)))  # type: ignore[arg-type]
    for der in (b"", AUDIT.to_der() + b"\0", b"\x30\x00"):
        with pytest.raises(DerError):
            SelfAudit.from_der(der)
