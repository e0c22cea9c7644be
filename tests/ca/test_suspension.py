"""Suspended, released, revoked for good: through the CRL, on record, once for each order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from audit import read
from ca.crl import ListedSerial
from ca.errors import RevocationRefusedError
from ca.revocation import Changed
from ca.store import CertificateRecord
from cps.decision import Revocation, build_revocation
from cps.model import OrderReason, load_pack
from pki.extensions import authority_key_id
from pki.oids import CT_REVOCATION
from pki.timestamp import with_certificates
from tests.cps.test_model import TEXT
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.one_intent import known_keys
from tests.support.pki_factory import Credential

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def merchant(world: CaWorld) -> CertificateRecord:
    return world.authority.issuance.issue(world.approved_merchant())["signing"]


def forward(world: CaWorld, by: timedelta) -> None:
    """Later, with the lists of then."""
    world.clock.forward(by)
    world.authority.publisher.refresh()


def listed(world: CaWorld, record: CertificateRecord) -> x509.RevokedCertificate | None:
    """Its entry in the newest full list."""
    world.authority.publisher.refresh()
    latest = world.authority.store.crls.latest(record.issuer)
    assert latest is not None
    crl = x509.load_der_x509_crl(latest.der)
    return crl.get_revoked_certificate_by_serial_number(record.certificate.serial_number)


def ordered(world: CaWorld, record: CertificateRecord, reason: OrderReason, by: Credential | None = None) -> bytes:
    """An order written now."""
    return world.office.revocation(
        record.certificate, by or world.office.vetter, reason=reason, date=world.clock.now.replace(microsecond=0)
    )


def apply(world: CaWorld, record: CertificateRecord, reason: OrderReason) -> Changed:
    return world.authority.revocation.apply(ordered(world, record, reason))


def states(world: CaWorld, record: CertificateRecord) -> list[str]:
    return [each.state for each in world.authority.store.status.history(record.issuer, record.serial)]


def test_a_suspended_certificate_is_listed_as_held_until_it_is_released(world: CaWorld) -> None:
    record = merchant(world)

    held = apply(world, record, "certificateHold")
    entry = listed(world, record)
    assert held.record.state == "held"
    assert held.crl is not None
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.certificate_hold

    forward(world, DAY)
    released = apply(world, record, "removeFromCRL")
    assert released.record.state == "released"
    assert listed(world, record) is None
    assert states(world, record) == ["held", "released"]


def test_what_is_held_can_be_revoked_and_keeps_the_date_of_its_suspension(world: CaWorld) -> None:
    record = merchant(world)
    held = apply(world, record, "certificateHold")
    forward(world, DAY)

    revoked = apply(world, record, "keyCompromise")

    entry = listed(world, record)
    assert entry is not None
    assert entry.revocation_date_utc == held.record.revoked_at == revoked.record.revoked_at
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    first, second = world.authority.store.status.history(record.issuer, record.serial)
    assert second.at - first.at == DAY


def test_revoked_is_for_good(world: CaWorld) -> None:
    record = merchant(world)
    apply(world, record, "superseded")

    for reason in ("removeFromCRL", "certificateHold", "keyCompromise"):
        with pytest.raises(RevocationRefusedError, match=r"REV-STATE \(CPS 4\.9\.15\).*for good"):
            apply(world, record, reason)  # type: ignore[arg-type]
    assert listed(world, record) is not None


def test_what_is_not_suspended_is_not_released(world: CaWorld) -> None:
    with pytest.raises(RevocationRefusedError, match="not suspended"):
        apply(world, merchant(world), "removeFromCRL")


def test_the_same_order_twice_changes_nothing_even_after_others(world: CaWorld) -> None:
    record = merchant(world)
    hold = ordered(world, record, "certificateHold")
    first = world.authority.revocation.apply(hold)
    assert world.authority.revocation.apply(hold) == first
    forward(world, HOUR)
    release = ordered(world, record, "removeFromCRL")
    world.authority.revocation.apply(release)

    assert world.authority.revocation.apply(hold).record.state == "released"  # an order suspends once
    forward(world, HOUR)
    apply(world, record, "certificateHold")
    assert world.authority.revocation.apply(release).record.state == "held"  # and releases once
    assert states(world, record) == ["held", "released", "held"]


def test_a_release_that_was_held_back_ends_no_later_suspension(world: CaWorld) -> None:
    record = merchant(world)
    apply(world, record, "certificateHold")
    held_back = ordered(world, record, "removeFromCRL")
    forward(world, timedelta(hours=1))
    apply(world, record, "removeFromCRL")
    forward(world, timedelta(hours=1))
    apply(world, record, "certificateHold")

    with pytest.raises(RevocationRefusedError, match="written before"):
        world.authority.revocation.apply(held_back)


def test_an_order_in_another_wrapping_is_the_same_order(world: CaWorld) -> None:
    """Certificates beside a signature are not signed: whoever has an order can add one, and has other bytes."""
    record, officer = merchant(world), world.office.vetter
    issuer = authority_key_id(record.certificate.extensions)
    assert issuer is not None
    release = Revocation(
        issuer,
        record.certificate.serial_number,
        "removeFromCRL",
        (world.clock.now + timedelta(seconds=100)).replace(microsecond=0),  # by a clock that goes ahead
    )
    content = build_revocation(release)
    signed = officer.sign(CT_REVOCATION, content, signing_time=release.date)
    again = with_certificates(signed, [officer.certificate, *officer.chain, world.office.approver.certificate])
    assert again != signed
    apply(world, record, "certificateHold")
    assert world.authority.revocation.apply(signed).record.state == "released"
    forward(world, timedelta(seconds=10))
    apply(world, record, "certificateHold")

    assert world.authority.revocation.apply(again).record.state == "held"
    assert states(world, record) == ["held", "released", "held"]


def test_every_change_is_in_the_journal_once_and_in_the_story(world: CaWorld) -> None:
    record = merchant(world)
    for reason in ("certificateHold", "removeFromCRL", "certificateHold", "superseded"):
        forward(world, HOUR)
        order = ordered(world, record, reason)  # type: ignore[arg-type]
        world.authority.revocation.apply(order)
        world.authority.revocation.apply(order)

    events = [each.entry["event"] for each in read(world.record.journal.path)]
    of_status = [event for event in events if event in {"ca.suspended", "ca.released", "ca.revoked"}]
    assert of_status == ["ca.suspended", "ca.released", "ca.suspended", "ca.revoked"]
    story = world.authority.story(record.issuer, record.serial)
    assert [each.state for each in story.history] == ["held", "released", "held", "revoked"]
    assert story.crl is not None
    assert {name.split("/")[0] for name in story.log} >= {"ca.issued", "ca.suspended", "ca.released", "ca.revoked"}


class TestByOthersThanOfficers:
    def test_the_holder_suspends_with_the_very_key(self, world: CaWorld) -> None:
        record = merchant(world)
        chain = world.authority.hierarchy.chain(record.issuer)
        holder = Credential(record.certificate, world.office.signing_key, chain)
        changed = world.authority.revocation.apply(ordered(world, record, "certificateHold", holder))
        assert (changed.record.state, changed.record.ordered_by) == ("held", "urn:kwbp:merchant:M-1")

    def test_the_issuer_bank_suspends_the_card_of_its_case(self, world: CaWorld) -> None:
        record = world.authority.issuance.issue(world.approved_cardholder())["signing"]
        changed = world.authority.revocation.apply(ordered(world, record, "certificateHold", world.office.bank))
        assert changed.record.state == "held"

    def test_another_bank_does_not(self, world: CaWorld) -> None:
        record = world.authority.issuance.issue(world.approved_cardholder())["signing"]
        other = world.office.pki.service("issuer-627412")
        with pytest.raises(RevocationRefusedError, match="REV-ROLE"):
            world.authority.revocation.apply(ordered(world, record, "certificateHold", other))

    def test_a_bank_has_no_say_about_a_merchant(self, world: CaWorld) -> None:
        with pytest.raises(RevocationRefusedError, match="REV-ROLE"):
            world.authority.revocation.apply(ordered(world, merchant(world), "certificateHold", world.office.bank))


class TestTheEndOfASuspension:
    def test_it_is_revoked_as_of_its_suspension(self, world: CaWorld) -> None:
        record = merchant(world)
        held = apply(world, record, "certificateHold")
        forward(world, 30 * DAY - timedelta(seconds=1))
        assert world.authority.revocation.end_suspensions() == []
        forward(world, timedelta(seconds=1))

        (ended,) = world.authority.revocation.end_suspensions()

        assert (ended.state, ended.reason, ended.ordered_by) == ("revoked", "cessationOfOperation", "service:ca")
        assert ended.revoked_at == held.record.revoked_at
        assert world.authority.revocation.end_suspensions() == []
        assert listed(world, record) is not None

    def test_a_statement_may_only_warn(
        self, tmp_path: Path, office: Office, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lenient = Office(office.pki, load_pack(TEXT.replace("at_end: revoke", "at_end: warn")))
        world = CaWorld(tmp_path, lenient)
        record = merchant(world)
        apply(world, record, "certificateHold")
        forward(world, 31 * DAY)
        capsys.readouterr()

        assert world.authority.revocation.end_suspensions() == []
        assert world.authority.revocation.end_suspensions() == []

        assert capsys.readouterr().err.count("suspension-too-long") == 1
        assert states(world, record) == ["held"]
        world.close()


class TestDeniedKeys:
    def test_two_officers_deny_a_key_once(self, world: CaWorld) -> None:
        office, key = world.office, bytes(31) + b"\x01"
        orders = [office.denial(key, office.vetter), office.denial(key, office.security)]
        found = world.authority.revocation.deny(orders)
        assert (found.spki_sha256, found.listed_by) == (key.hex(), "officer-1, officer-5")
        assert world.authority.revocation.deny(orders) == found
        denylist = world.authority.store.status.denylist
        assert denylist.keys() == [found]
        assert denylist.keys(after=found.spki_sha256) == []
        assert denylist.find(found.spki_sha256) == found
        assert denylist.find("00" * 32) is None

    def test_one_officer_does_not(self, world: CaWorld) -> None:
        with pytest.raises(RevocationRefusedError, match="1 more of 2 orders"):
            world.authority.revocation.deny([world.office.denial(bytes(32), world.office.vetter)])
        assert world.authority.store.status.denylist.keys() == []

    def test_a_denied_key_is_never_certified(self, world: CaWorld) -> None:
        office = world.office
        key = bytes.fromhex(merchant(world).spki_sha256)
        world.authority.revocation.deny([office.denial(key, office.vetter), office.denial(key, office.security)])
        assert known_keys(world.authority.store, [key], application_id="case-2").denylisted == {key}

    def test_a_compromised_key_is_denied_by_its_revocation(self, world: CaWorld) -> None:
        record = merchant(world)
        apply(world, record, "keyCompromise")
        found = world.authority.store.status.denylist.find(record.spki_sha256)
        assert found is not None
        assert (found.reason, found.listed_by) == ("keyCompromise", "officer-1")


def test_of_fifty_orders_at_once_one_wins_and_the_rest_are_told_why(world: CaWorld) -> None:
    record = merchant(world)
    issuer = world.authority.hierarchy["merchant-ca"].certificate
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    reasons: list[OrderReason] = ["superseded", "cessationOfOperation", "affiliationChanged", "keyCompromise"]
    orders = []
    for number in range(50):
        at = world.clock.now.replace(microsecond=0) - timedelta(seconds=number)
        order = Revocation(key_id, record.certificate.serial_number, reasons[number % 4], at)
        orders.append(world.office.vetter.sign(CT_REVOCATION, build_revocation(order), signing_time=at))
    together = threading.Barrier(10)

    def attempt(index: int) -> str:
        if index < 10:
            together.wait(30)
        try:
            return world.authority.revocation.apply(orders[index]).record.reason
        except RevocationRefusedError as error:
            return str(error)

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(attempt, range(50)))

    winners = [each for each in results if each in reasons]
    assert len(winners) == 1
    assert sum("REV-STATE" in each and winners[0] in each for each in results) == 49
    assert states(world, record) == ["revoked"]


def test_suspend_and_revoke_at_once_end_revoked_whatever_comes_first(world: CaWorld) -> None:
    record = merchant(world)
    orders = [ordered(world, record, "certificateHold"), ordered(world, record, "superseded")]
    together = threading.Barrier(2)

    def attempt(order: bytes) -> bool:
        together.wait(30)
        try:
            world.authority.revocation.apply(order)
        except RevocationRefusedError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        hold, revoke = pool.map(attempt, orders)

    assert revoke
    assert states(world, record) == (["held", "revoked"] if hold else ["revoked"])


def test_a_restored_database_learns_from_a_newer_list_that_what_it_holds_was_revoked(world: CaWorld) -> None:
    record = merchant(world)
    held = apply(world, record, "certificateHold")
    newer = ListedSerial(record.serial, "keyCompromise", held.record.revoked_at, None)
    status = world.authority.store.status

    status.import_revocations(record.issuer, [newer], source="CRL 7")
    status.import_revocations(record.issuer, [newer], source="CRL 8")

    found = status.revocation(record.issuer, record.serial)
    assert found is not None
    assert (found.state, found.reason, found.ordered_by) == ("revoked", "keyCompromise", "CRL 7")
