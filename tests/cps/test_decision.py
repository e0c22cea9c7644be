"""DER of decisions and revocation orders."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat import asn1

from cps.decision import (
    Choice,
    Decision,
    DecisionTBS,
    KeyDenial,
    KeyDenialTBS,
    Kind,
    Revocation,
    RevocationTBS,
    build_decision,
    build_key_denial,
    build_revocation,
    parse_decision,
    parse_key_denial,
    parse_revocation,
)
from cps.errors import StatementError
from cps.model import OrderReason
from pki.der import encode

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
DECISION = Decision("case-1", b"\x01" * 32, b"\x02" * 32, "vet", Choice.APPROVE, "seen", NOW, NOW + timedelta(days=1))
ORDER = Revocation(b"\x03" * 20, 2**70 + 1, "keyCompromise", NOW, NOW - timedelta(days=2))


def test_a_decision_reads_back_as_it_was_written() -> None:
    assert parse_decision(build_decision(DECISION)) == DECISION
    rejected = replace(DECISION, choice=Choice.REJECT, reason="دلیل", code="evidence_false")
    assert parse_decision(build_decision(rejected)) == rejected


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"code": "risk"}, "an approval gives no code"),
        ({"choice": Choice.REJECT}, "a rejection gives the code"),
        ({"choice": Choice.REJECT, "code": "Not one"}, "a rejection gives the code"),
        ({"choice": Choice.REJECT, "code": "c" * 41}, "a rejection gives the code"),
    ],
)
def test_a_code_is_that_of_a_rejection(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(StatementError, match=fault):
        build_decision(replace(DECISION, **changes))


def test_a_revocation_reads_back_as_it_was_written() -> None:
    assert parse_revocation(build_revocation(ORDER)) == ORDER
    without = replace(ORDER, invalidity_date=None)
    assert parse_revocation(build_revocation(without)) == without


def test_openssl_reads_a_decision(tmp_path: Path) -> None:
    (tmp_path / "decision.der").write_bytes(build_decision(DECISION))
    command = ["openssl", "asn1parse", "-inform", "DER", "-in", str(tmp_path / "decision.der")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "UTF8STRING        :case-1" in listing
    assert "GENERALIZEDTIME   :20261122120000Z" in listing


def test_times_are_written_in_utc() -> None:
    tehran = timezone(timedelta(hours=3, minutes=30))
    assert build_decision(replace(DECISION, date=NOW.astimezone(tehran))) == build_decision(DECISION)


@pytest.mark.parametrize("time", [NOW.replace(tzinfo=None), NOW.replace(microsecond=1)])
def test_times_are_aware_and_whole_seconds(time: datetime) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        build_decision(replace(DECISION, date=time))


@pytest.mark.parametrize(
    "decision",
    [
        replace(DECISION, application_id=""),
        replace(DECISION, revision_digest=b"\x01" * 31),
        replace(DECISION, evidence_digest=b"\x01" * 33),
        replace(DECISION, step="s" * 65),
        replace(DECISION, reason="r" * 501),
    ],
)
def test_a_field_of_another_size_is_not_written(decision: Decision) -> None:
    with pytest.raises(StatementError, match="longer or shorter"):
        build_decision(decision)


def _tbs(**changes: object) -> DecisionTBS:
    fields: dict[str, object] = {
        "version": 1,
        "application_id": "case-1",
        "revision_digest": b"\x01" * 32,
        "evidence_digest": b"\x02" * 32,
        "step": "vet",
        "verdict": 0,
        "reason": "",
        "date": asn1.GeneralizedTime(NOW),
        "expires": asn1.GeneralizedTime(NOW + timedelta(days=1)),
    }
    return DecisionTBS(**{**fields, **changes})  # type: ignore[arg-type]  # one field is deliberately unusual


@pytest.mark.parametrize(
    ("tbs", "fault"),
    [
        (_tbs(version=2), "version 2"),
        (_tbs(verdict=2), "neither approve nor reject"),
        (_tbs(code="risk"), "an approval gives no code"),
        (_tbs(verdict=1), "a rejection gives the code"),
        (_tbs(verdict=1, code="x y"), "a rejection gives the code"),
        (_tbs(expires=asn1.GeneralizedTime(NOW)), "expires before"),
        (_tbs(date=asn1.GeneralizedTime(NOW + timedelta(microseconds=5))), "whole seconds"),
    ],
)
def test_a_decision_that_says_something_odd_is_refused(tbs: DecisionTBS, fault: str) -> None:
    with pytest.raises(StatementError, match=fault):
        parse_decision(encode(tbs))


@pytest.mark.parametrize("der", [b"", b"\x30\x00", build_decision(DECISION) + b"\x00", build_decision(DECISION)[:-1]])
def test_bytes_that_are_not_one_decision_are_refused(der: bytes) -> None:
    with pytest.raises(StatementError, match="not a DecisionTBS"):
        parse_decision(der)


def _order(**changes: object) -> RevocationTBS:
    fields: dict[str, object] = {
        "version": 1,
        "issuer_key_id": b"\x03" * 20,
        "serial": 5,
        "reason": "keyCompromise",
        "date": asn1.GeneralizedTime(NOW),
        "invalidity_date": None,
    }
    return RevocationTBS(**{**fields, **changes})  # type: ignore[arg-type]  # one field is deliberately unusual


@pytest.mark.parametrize(
    ("tbs", "fault"),
    [
        (_order(version=0), "version 0"),
        (_order(reason="mood"), "not one for which"),
        (_order(serial=0), "serial"),
        (_order(serial=2**160), "serial"),
    ],
)
def test_a_revocation_that_says_something_odd_is_refused(tbs: RevocationTBS, fault: str) -> None:
    with pytest.raises(StatementError, match=fault):
        parse_revocation(encode(tbs))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("certificateHold", Kind.SUSPEND), ("removeFromCRL", Kind.RELEASE), ("superseded", Kind.REVOKE)],
)
def test_the_reason_says_what_an_order_does(reason: OrderReason, kind: Kind) -> None:
    order = replace(ORDER, reason=reason)
    assert parse_revocation(build_revocation(order)).kind is kind


DENIAL = KeyDenial(b"\x04" * 32, "its private key is public", NOW)


def test_a_denied_key_reads_back_as_it_was_written() -> None:
    assert parse_key_denial(build_key_denial(DENIAL)) == DENIAL


@pytest.mark.parametrize("denial", [replace(DENIAL, spki_sha256=b"\x04" * 31), replace(DENIAL, reason="")])
def test_a_denial_of_another_size_is_not_written(denial: KeyDenial) -> None:
    with pytest.raises(StatementError, match="longer or shorter"):
        build_key_denial(denial)


def test_a_denial_of_another_version_is_refused() -> None:
    tbs = KeyDenialTBS(version=2, spki_sha256=b"\x04" * 32, reason="r", date=asn1.GeneralizedTime(NOW))
    with pytest.raises(StatementError, match="version 2"):
        parse_key_denial(encode(tbs))


@pytest.mark.parametrize("reason", ["approved\u202e", "fine\nDEC-1 approve", "Bооkshop", " blank", "۱۲"])
def test_a_reason_reads_as_what_it_is(reason: str) -> None:
    with pytest.raises(StatementError, match="the reason: "):
        parse_decision(build_decision(replace(DECISION, reason=reason)))
    with pytest.raises(StatementError, match="the reason: "):
        parse_key_denial(build_key_denial(replace(DENIAL, reason=reason)))
