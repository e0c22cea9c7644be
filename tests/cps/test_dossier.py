"""Dossiers: their digests, their JSON, and what they refuse to hold."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cps.dossier import Dossier, broken_rules, evidence_digest
from cps.errors import DossierError
from tests.support.cps_cases import MERCHANT, Office, evidence


def test_the_digest_of_a_revision_is_the_sha256sum_of_its_canonical_form(office: Office, tmp_path: Path) -> None:
    revision = office.merchant_case().revision
    (tmp_path / "revision.json").write_bytes(revision.canonical())
    printed = subprocess.run(["sha256sum", str(tmp_path / "revision.json")], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[0] == revision.digest.hex()


def test_the_canonical_form_has_one_spelling(office: Office) -> None:
    text = office.merchant_case().revision.canonical().decode()
    assert text == json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert json.loads(text)["subject"]["class"] == "merchant"


@pytest.mark.parametrize(
    "change",
    [
        {"application_id": "case-2"},
        {"number": 2},
        {"subject": MERCHANT.model_copy(update={"online": False})},
        {"signals": ("rejected_before",)},
    ],
)
def test_whatever_influences_the_certificate_changes_the_digest(office: Office, change: dict[str, Any]) -> None:
    assert office.merchant_case(**change).revision.digest != office.merchant_case().revision.digest


def test_the_digest_of_the_evidence_does_not_depend_on_its_order_or_on_whether_bodies_travel(office: Office) -> None:
    one, two = evidence("a", body=b"body of a"), evidence("b")
    stripped = one.model_copy(update={"body": None})
    assert evidence_digest((one, two)) == evidence_digest((two, stripped))
    assert evidence_digest((one, two)) != evidence_digest((one,))


@pytest.mark.parametrize("beyond", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_does_not_have_is_no_time(beyond: str) -> None:
    fields = evidence("a").model_dump() | {"expires_at": datetime.fromisoformat(beyond)}
    with pytest.raises(ValidationError, match="between the years 1 and 9999"):
        type(evidence("a")).model_validate(fields)


def test_a_dossier_reads_back_from_its_json(office: Office) -> None:
    dossier = office.decided(office.gateway_case(), "vet", office.vetter)
    again = Dossier.from_json(dossier.to_json())
    assert again == dossier
    assert (again.revision.digest, again.evidence_digest) == (dossier.revision.digest, dossier.evidence_digest)


def test_the_author_of_a_revision_is_the_last_of_its_authors(office: Office) -> None:
    dossier = office.merchant_case()
    assert dossier.revision.author.person == "applicant-1"
    assert dossier.revision.member_class == "merchant"


def _changed(office: Office, path: str, value: object) -> str:
    document: Any = json.loads(office.decided(office.cardholder_case(), "auto", office.ra).to_json())
    node = document
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(last) if isinstance(node, list) else last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("revision.number", 0),
        ("revision.authors", []),
        ("revision.csrs", []),
        ("revision.csrs.0.purpose", "sealing"),
        ("revision.csrs.0.sha256", "00"),
        ("revision.csrs.0.sha256", "zz" * 32),
        ("revision.subject.class", "robot"),
        ("revision.subject.commitment", "A" * 42),
        ("revision.subject.commitment", "A" * 42 + "+"),
        ("revision.subject.bin", "12345"),
        ("csrs.signing", "not base64!"),
        ("csrs.signing", "A" * 4 * 8192),
        ("decisions.0", 5),
        ("evidence.0.collected_at", "2026-03-21T12:00:00"),
        ("evidence.0.body", "AAAA"),
    ],
)
def test_what_is_no_dossier_is_refused_without_showing_it(office: Office, path: str, value: object) -> None:
    with pytest.raises(DossierError) as refused:
        Dossier.from_json(_changed(office, path, value))
    assert not (isinstance(value, str) and value in str(refused.value))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x" * 51, "name: too_long (max length: 50)"),
        (
            "Book\u202eshop",
            "name: value_error (error: U+202E RIGHT-TO-LEFT OVERRIDE controls the direction of the text)",
        ),
    ],
)
def test_what_a_broken_rule_wants_is_told(name: str, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MERCHANT.__class__(**{**MERCHANT.model_dump(by_alias=True), "name": name})
    assert str(broken_rules(refused.value)) == told


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(DossierError, match="json_invalid"):
        Dossier.from_json(b"{")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * 51, id="too-long"),
        pytest.param(" Bookshop", id="leading-space"),
        pytest.param("Book\nshop", id="line-feed"),
        pytest.param("Book\u202eshop", id="direction-override"),
        pytest.param("Booksho\u0308p", id="not-nfc"),
    ],
)
def test_a_name_is_plain_text(name: str) -> None:
    with pytest.raises(ValidationError):
        MERCHANT.__class__(**{**MERCHANT.model_dump(), "name": name})


def test_a_name_may_be_persian() -> None:
    named = MERCHANT.__class__(**{**MERCHANT.model_dump(), "name": "کتاب\u200cفروشی"})
    assert named.name == "کتاب\u200cفروشی"


def test_times_of_evidence_are_compared_in_utc() -> None:
    assert evidence("a", at=datetime(2026, 1, 1, tzinfo=UTC)).collected_at.tzinfo is not None


def test_a_body_has_the_digest_that_is_on_file() -> None:
    with pytest.raises(ValidationError, match="not the one that was digested"):
        evidence("a", body=b"body", sha256=hashlib.sha256(b"other").digest())


def test_a_digest_never_outlives_what_it_is_of(office: Office) -> None:
    dossier = office.merchant_case()
    before = dossier.revision.digest, dossier.evidence_digest

    revision = dossier.revision.model_copy(update={"number": dossier.revision.number + 1})
    changed = dossier.model_copy(update={"revision": revision, "evidence": ()})

    assert before == (dossier.revision.digest, dossier.evidence_digest)
    assert changed.revision.digest != before[0]
    assert changed.evidence_digest != before[1]
    assert dossier == dossier.model_copy()
    assert dossier.model_copy().revision.digest == before[0]
