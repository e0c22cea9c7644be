"""The self-audit: which certificates are drawn, what is found in them, what the report and the journal say of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete, update

from ca import tables
from ca.errors import InProgressError, NotOnRecordError, RequestError
from ca.ocsp_answer import CertificateStatus
from ca.self_audit import Answered, Exhibit, Open, sample, sample_size
from ca.self_audit_checks import CHECKS
from ca.self_auditor import _Reader
from ca.store import CertificateRecord
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.many_cases import merchant_cases

SEED = "00" * 16


@pytest.fixture(scope="module")
def issued(
    tmp_path_factory: pytest.TempPathFactory, office: Office
) -> Iterator[tuple[CaWorld, list[CertificateRecord]]]:
    """A CA that issued six certificates, of which one was revoked, one held, one held and released."""
    world = CaWorld(tmp_path_factory.mktemp("audited"), office)
    records = [world.authority.issuance.issue(case)["signing"] for case in merchant_cases(office, 6)]
    for record, reasons in zip(
        records, (["superseded"], ["certificateHold"], ["certificateHold", "removeFromCRL"]), strict=False
    ):
        for reason in reasons:
            world.authority.revocation.apply(
                office.revocation(record.certificate, office.vetter, reason=reason)  # type: ignore[arg-type]
            )
    world.clock.forward(timedelta(minutes=10))
    yield world, records
    world.close()


@pytest.fixture
def own(tmp_path: Path, office: Office) -> Iterator[tuple[CaWorld, CertificateRecord]]:
    """A CA of the test's own with one certificate."""
    world = CaWorld(tmp_path, office)
    record = world.authority.issuance.issue(world.approved_merchant())["signing"]
    world.clock.forward(timedelta(minutes=1))
    yield world, record
    world.close()


def exhibit(world: CaWorld, record: CertificateRecord) -> Exhibit:
    return _Reader(world.authority.self_audit, world.clock.now).exhibit((record.issuer, record.serial))


def broken(of: Exhibit) -> dict[str, str]:
    outcomes = {check.name: check.look(of) for check in CHECKS}
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}


# -- the sample


def test_the_sample_follows_from_the_seed_and_the_certificates_alone() -> None:
    keys = [("merchant-ca", f"{number:x}") for number in range(1000)]
    drawn = sample(keys, SEED, 30)
    assert drawn == sample(reversed(keys), SEED, 30) == sorted(drawn)
    assert len(set(drawn)) == 30
    assert drawn != sample(keys, "01" * 16, 30)
    assert set(sample(keys, SEED, 10)) < set(drawn)


@pytest.mark.parametrize(
    ("of", "share", "least", "size"),
    [(1000, 0.03, 20, 30), (1001, 0.03, 20, 31), (100, 0.03, 20, 20), (5, 0.03, 20, 5)],
)
def test_a_share_but_at_least_so_many_but_no_more_than_there_are(of: int, share: float, least: int, size: int) -> None:
    assert sample_size(of, share, least) == size


# -- what is sound


def test_nothing_is_found_in_what_was_issued_revoked_held_and_released(
    issued: tuple[CaWorld, list[CertificateRecord]],
) -> None:
    world, _records = issued
    kept = world.authority.self_audit.audit(share=1)
    report = kept.parsed
    assert (report.issued, report.sampled, report.findings) == (6, 6, ())
    assert {name: (count.kept, count.broken) for name, count in report.checks.items() if name != "ocsp"} == {
        check.name: (6, 0) for check in CHECKS if check.name != "ocsp"
    }
    assert report.checks["ocsp"].open_because == {"no answer was signed ahead": 6}
    assert kept.sha256 == hashlib.sha256(kept.report).hexdigest()


def test_the_journal_has_the_digest_of_the_report(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, _records = issued
    kept = world.authority.self_audit.audit(share=0, least=2, seed=SEED)
    assert kept.parsed.sampled == 2
    lines = (world.folder.parent / "audit" / "ca.jsonl").read_text().splitlines()
    entries = [json.loads(line)["entry"] for line in lines]
    (entry,) = [each for each in entries if each.get("key") == kept.sha256]
    assert (entry["event"], entry["seed"], entry["sampled"], entry["findings"]) == ("ca.self-audit", SEED, 2, 0)
    assert world.authority.self_audit.report(kept.sha256) == kept
    assert kept in world.authority.self_audit.reports()


def test_each_night_goes_on_where_the_last_one_ended(own: tuple[CaWorld, CertificateRecord]) -> None:
    world, _record = own
    auditor = world.authority.self_audit
    first = auditor.nightly().parsed
    world.clock.forward(timedelta(days=1))
    world.authority.maintain()
    second = auditor.nightly().parsed
    assert (first.issued, second.issued, second.since) == (1, 0, first.until)
    assert [each.until for each in auditor.reports()] == [second.until, first.until]


def test_one_audit_at_a_time_of_a_period_that_is_one(own: tuple[CaWorld, CertificateRecord]) -> None:
    world, _record = own
    auditor = world.authority.self_audit
    with pytest.raises(RequestError):
        auditor.audit(since=world.clock.now, until=world.clock.now)
    with auditor._lock, pytest.raises(InProgressError):
        auditor.audit()
    with pytest.raises(NotOnRecordError):
        auditor.report("00" * 32)


# -- what is found


def test_a_certificate_that_nobody_signed_is_found(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    forged = bytearray(sound.record.der)
    forged[-1] ^= 1
    sha256 = hashlib.sha256(forged).hexdigest()
    found = broken(replace(sound, record=replace(sound.record, der=bytes(forged), sha256=sha256)))
    assert found == {"signature": "merchant-ca did not sign it"}
    assert "signature" in broken(replace(sound, issuer=None))


def test_a_row_that_says_otherwise_than_the_certificate_is_found(
    issued: tuple[CaWorld, list[CertificateRecord]],
) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    found = broken(replace(sound, record=replace(sound.record, subject="CN=Another")))
    assert found == {"record": "the row differs from the certificate in subject"}


def test_what_was_not_intended_is_found(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, records = issued
    one, other = exhibit(world, records[4]), exhibit(world, records[5])
    assert one.intent is not None
    assert other.intent is not None
    found = broken(replace(one, intent=other.intent))
    assert found["intent"] == "it is not, byte for byte, what was intended"
    assert found["case"] == "the case on record is another one"
    for intent, said in (
        (None, "it has no intent"),
        (replace(one.intent, state="abandoned"), "its intent is abandoned"),
        (replace(one.intent, tbs_sha256="00" * 32), "the digest of the intent is not that of its bytes"),
        (replace(one.intent, profile="another"), "its intent is for another issuer, serial, profile or key"),
        (replace(one.intent, intended_at=world.clock.now), "it was stored before it was intended"),
    ):
        assert broken(replace(one, intent=intent))["intent"] == said


def test_a_case_that_asks_for_something_else_is_found(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, records = issued
    one, other = exhibit(world, records[4]), exhibit(world, records[5])
    assert one.intent is not None
    assert other.dossier is not None
    swapped = replace(one.intent, revision_digest=other.dossier.revision_digest)
    assert broken(replace(one, dossier=other.dossier, intent=swapped)) == {
        "case": "its case asks for another subject or key"
    }
    assert broken(replace(one, dossier=None)) == {"case": "the case that it rests on is not on record"}
    nobody = replace(one.intent, approvals=())
    assert broken(replace(one, intent=nobody)) == {"case": "other persons approve its case than were noted"}
    encryption = replace(one.intent, purpose="encryption")
    assert broken(replace(one, intent=encryption)) == {
        "case": "its case asks for no certificate of this purpose and profile"
    }


def test_a_case_is_judged_as_of_then_and_not_as_of_now(tmp_path: Path, fresh_office: Office) -> None:
    """An officer who was revoked a day later approved it rightly; one who was revoked before did not."""
    world = CaWorld(tmp_path, fresh_office)
    office, authority = fresh_office, world.authority
    authority.store.import_certificate(
        office.approver.certificate, issuer="operations-ca", profile="officer", now=world.clock.now
    )
    record = authority.issuance.issue(world.approved_merchant())["signing"]
    world.clock.forward(timedelta(minutes=30))
    order = office.revocation(office.approver.certificate, office.security, date=world.clock.now)
    authority.revocation.apply(order)
    world.clock.forward(timedelta(minutes=30))
    sound = exhibit(world, record)
    assert broken(sound) == {}
    assert sound.intent is not None
    later = replace(sound.intent, intended_at=world.clock.now)
    trusts = _Reader(authority.self_audit, world.clock.now)._trusts_at(world.clock.now)
    found = broken(replace(sound, intent=later, trusts=trusts))["case"]
    assert "as of" in found
    assert "revoked" in found
    world.close()


def test_what_was_revoked_in_the_second_of_an_approval_may_have_been_revoked_after_it(
    tmp_path: Path, fresh_office: Office
) -> None:
    world = CaWorld(tmp_path, fresh_office)
    office, authority = fresh_office, world.authority
    authority.store.import_certificate(
        office.approver.certificate, issuer="operations-ca", profile="officer", now=world.clock.now
    )
    case = world.approved_merchant()
    world.clock.now = world.clock.now.replace(microsecond=200_000) + timedelta(seconds=1)
    record = authority.issuance.issue(case)["signing"]
    world.clock.forward(timedelta(milliseconds=500))
    order_date = world.clock.now.replace(microsecond=0)
    authority.revocation.apply(office.revocation(office.approver.certificate, office.security, date=order_date))
    world.clock.forward(timedelta(minutes=30))
    assert broken(exhibit(world, record)) == {}
    world.close()


def test_without_the_lists_or_the_statement_of_then_a_case_stays_open(
    issued: tuple[CaWorld, list[CertificateRecord]],
) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    case = next(check for check in CHECKS if check.name == "case")
    assert sound.dossier is not None
    assert isinstance(case.look(replace(sound, trusts=())), Open)
    assert isinstance(case.look(replace(sound, pack=None)), Open)
    assert isinstance(case.look(replace(sound, issuer=None)), Open)


def test_lints_that_were_not_tried_or_are_broken_are_found(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    assert sound.intent is not None
    untried = replace(sound.intent, lints=tuple(code for code in sound.intent.lints if code != "key"))
    assert broken(replace(sound, intent=untried)) == {"lints": "it was issued without the lints key"}
    elsewhere = replace(sound.publication, repository="http://elsewhere.example")
    assert "crl-distribution-point" in broken(replace(sound, publication=elsewhere))["lints"]


def test_the_limits_of_the_profile_are_looked_at_apart_from_the_lints(
    issued: tuple[CaWorld, list[CertificateRecord]],
) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    profile = next(check for check in CHECKS if check.name == "profile")
    root = replace(sound, record=replace(sound.record, der=world.pki.root.certificate.public_bytes(Encoding.DER)))
    assert "lives for" in str(profile.look(root))
    assert profile.look(replace(sound, record=replace(sound.record, profile="none"))) == "there is no profile none"
    assert profile.look(replace(sound, record=replace(sound.record, issuer="gateway-ca"))) == (
        "the profile is of merchant-ca"
    )


def test_a_serial_that_was_not_reserved_first_is_found(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    assert broken(replace(sound, reserved_at=None)) == {"serial": "its serial was not reserved"}
    assert broken(replace(sound, reserved_at=world.clock.now)) == {
        "serial": "its serial was reserved after it was intended"
    }


def test_a_status_that_no_list_tells_is_found(own: tuple[CaWorld, CertificateRecord]) -> None:
    """Somebody who can write to the database takes a revocation back; the list still has it."""
    world, record = own
    office = world.office
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter, reason="superseded"))
    with world.engine.begin() as db:
        db.execute(delete(tables.status_changes))
        db.execute(delete(tables.revocations))
    found = broken(exhibit(world, record))
    assert "has it as revoked, on record it is good" in found["crl"]


def test_another_date_than_on_the_list_is_found(own: tuple[CaWorld, CertificateRecord]) -> None:
    world, record = own
    office = world.office
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter, reason="superseded"))
    with world.engine.begin() as db:
        db.execute(update(tables.revocations).values(revoked_at=world.clock.now + timedelta(hours=1)))
    assert "the list dates it" in broken(exhibit(world, record))["crl"]


def test_a_change_that_was_published_too_late_is_found(own: tuple[CaWorld, CertificateRecord]) -> None:
    world, record = own
    office = world.office
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter, reason="superseded"))
    with world.engine.begin() as db:
        db.execute(update(tables.status_changes).values(due_at=world.clock.now - timedelta(days=1)))
    assert "was published, due by" in broken(exhibit(world, record))["deadline"]
    with world.engine.begin() as db:
        db.execute(update(tables.status_changes).values(published_at=None))
    assert "is not published, due by" in broken(exhibit(world, record))["deadline"]


def test_an_ocsp_answer_that_says_otherwise_is_found(issued: tuple[CaWorld, list[CertificateRecord]]) -> None:
    world, records = issued
    sound = exhibit(world, records[5])
    serial, good = sound.record.certificate.serial_number, CertificateStatus("good")
    revoked = CertificateStatus("revoked", world.clock.now, "superseded")
    assert broken(replace(sound, answered=Answered(serial, good, good))) == {}
    assert (
        "says good, on record it is revoked" in broken(replace(sound, answered=Answered(serial, good, revoked)))["ocsp"]
    )
    assert "another certificate" in broken(replace(sound, answered=Answered(serial + 1, good, good)))["ocsp"]


def test_what_the_journal_lacks_is_found_unless_another_replica_has_it(own: tuple[CaWorld, CertificateRecord]) -> None:
    world, record = own
    world.authority.maintain()  # the lease is let go of once the journal has it
    del world.record._known[str(record.intent_id)]["ca.issued"]
    assert broken(exhibit(world, record)) == {"journal": "the journal lacks ca.issued"}
    kept = world.authority.self_audit.audit()
    assert (kept.findings, kept.parsed.findings[0].clause) == (1, "CPS 5.4.1")
    with world.engine.begin() as db:
        db.execute(update(tables.intents).values(lease_owner="another"))
    assert broken(exhibit(world, record)) == {}
