"""What must be unique is unique in the database, whatever the code above it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import Engine, func, insert, select

from ca import tables
from ca.crl_store import CrlRecord
from ca.errors import (
    InProgressError,
    IntentEndedError,
    KeyRefusedError,
    RequestError,
    StoreError,
    UnknownCertificateError,
)
from ca.status_store import RevocationRecord, Wanted
from ca.store import DossierRecord, Intent, Lease, NewIntent, Store, identity_of, serial_hex
from cps.model import OrderReason
from pki.names import common_name
from runtime.database import open_database, reading
from tests.support.databases import DATABASES, ca_database
from tests.support.one_intent import finish_intent, open_intent, reserve_serial
from tests.support.pki_factory import PkiFactory

NOW = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = open_database(ca_database(request.param, tmp_path))
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


def lease(owner: str = "one", until: datetime = NOW + 3 * MINUTE) -> Lease:
    return Lease(owner, until)


def new_intent(revision: str = "aa", purpose: str = "signing", serial: str = "1", spki: str = "11") -> NewIntent:
    return NewIntent(
        revision_digest=revision,
        purpose=purpose,
        profile="merchant-signing",
        issuer="merchant-ca",
        serial=serial,
        tbs=b"tbs",
        tbs_sha256="dd",
        spki_sha256=spki,
        lints=("serial", "key"),
        approvals=({"step": "vet", "person": "officer-1"},),
    )


def intend(
    store: Store, *, revision: str = "aa", purpose: str = "signing", serial: str = "1", spki: str = "11"
) -> Intent:
    store.save_dossiers([DossierRecord(revision, f"case-{revision}", "merchant", "cc", b"{}", NOW)])
    reserve_serial(store, "merchant-ca", serial, NOW)
    return open_intent(store, new_intent(revision, purpose, serial, spki), lease(), NOW)


def revoke(store: Store, serial: str = "1", reason: OrderReason = "superseded", denied: str | None = None) -> None:
    order = Wanted("merchant-ca", serial, reason, NOW, "officer-1", b"cms", None, None)
    assert isinstance(store.status.apply(order, NOW, denylist_spki=denied), RevocationRecord)


def test_a_serial_is_reserved_once_for_an_issuer(store: Store) -> None:
    assert reserve_serial(store, "merchant-ca", "1", NOW)
    assert not reserve_serial(store, "merchant-ca", "1", NOW)
    assert reserve_serial(store, "gateway-ca", "1", NOW)


def test_an_intent_reads_back_as_it_was_written(store: Store, engine: Engine) -> None:
    intent = intend(store)

    again = Store(engine).intent(intent.id)
    assert again == intent
    assert intent.lints == ("serial", "key")
    assert intent.approvals == ({"step": "vet", "person": "officer-1"},)
    assert intent.intended_at == NOW


def test_a_purpose_of_a_revision_has_one_live_intent(store: Store) -> None:
    first = intend(store)
    with pytest.raises(InProgressError, match="being issued already"):
        intend(store, serial="2", spki="22")

    store.abandon_intent(first, "refused", NOW, may_be_signed=False)

    assert intend(store, serial="2", spki="22").state == "open"
    assert set(store.live_intents(["aa"])["aa"]) == {"signing"}


def test_two_intents_cannot_share_a_serial(store: Store) -> None:
    intend(store)
    with pytest.raises(StoreError, match="has an intent already"):
        intend(store, revision="bb", spki="22")


def test_a_key_is_claimed_by_one_intent_and_a_refused_one_leaves_no_intent(store: Store) -> None:
    first = intend(store)
    with pytest.raises(KeyRefusedError, match="certified once"):
        intend(store, revision="bb", serial="2")
    assert store.unfinished() == [first]

    store.abandon_intent(first, "refused", NOW, may_be_signed=False)

    assert intend(store, revision="bb", serial="2").spki_sha256 == "11"


def test_a_denylisted_key_is_refused_when_the_intent_is_written(store: Store, pki: PkiFactory) -> None:
    certificate = pki.merchant().certificate
    store.import_certificate(certificate, issuer="merchant-ca", profile="merchant-signing", now=NOW)
    serial = serial_hex(certificate.serial_number)
    revoke(store, serial, "keyCompromise", "99")

    with pytest.raises(KeyRefusedError, match="compromised"):
        intend(store, spki="99")


def test_an_intent_ends_once(store: Store, pki: PkiFactory) -> None:
    certificate = pki.merchant().certificate
    intent = intend(store, serial=serial_hex(certificate.serial_number))
    finish_intent(store, intent, certificate, NOW)

    with pytest.raises(IntentEndedError):
        finish_intent(store, intent, certificate, NOW)
    with pytest.raises(IntentEndedError):
        store.abandon_intent(intent, "late", NOW, may_be_signed=True)
    assert store.status.revocations("merchant-ca") == []


def test_a_serial_that_may_be_signed_is_revoked_with_its_intent(store: Store) -> None:
    store.abandon_intent(intend(store), "compare", NOW, may_be_signed=True)

    found = store.status.revocation("merchant-ca", "1")
    assert found is not None
    assert (found.reason, found.order, found.ordered_by, found.published) == ("unspecified", None, "service:ca", False)


def test_importing_again_changes_nothing_and_a_second_certificate_of_a_serial_is_refused(
    store: Store, pki: PkiFactory
) -> None:
    first = pki.merchant("M-1").certificate
    twin = pki.merchant("M-2", serial=first.serial_number).certificate
    for _ in range(2):
        store.import_certificate(first, issuer="merchant-ca", profile="merchant-signing", now=NOW)

    with pytest.raises(StoreError, match="two certificates"):
        store.import_certificate(twin, issuer="merchant-ca", profile="merchant-signing", now=NOW)
    assert len(store.search(identity="urn:kwbp:merchant:M-1")) == 1


def test_crl_numbers_grow_and_what_they_cover_counts_as_published(store: Store, tmp_path: Path) -> None:
    reserve_serial(store, "merchant-ca", "1", NOW)
    revoke(store)
    path = tmp_path / "crl"
    path.write_bytes(b"crl")
    crl = CrlRecord("merchant-ca", 5, "aa", NOW, NOW + 2 * DAY, b"crl", epoch=1, entries=1)
    store.crls.add(crl, path)

    assert [each.published for each in store.status.revocations("merchant-ca")] == [True]
    assert store.crls.latest("merchant-ca") == crl
    with pytest.raises(StoreError, match="does not follow 5"):
        store.crls.add(crl, path)


def test_an_unknown_certificate_is_an_error_of_its_own(store: Store) -> None:
    with pytest.raises(UnknownCertificateError):
        store.certificate("merchant-ca", "1")
    assert store.intent(1) is None
    assert store.dossier("aa") is None
    assert store.status.revocation("merchant-ca", "1") is None
    assert store.crls.latest("merchant-ca") is None


def test_times_keep_their_instant_whatever_zone_they_came_in(store: Store) -> None:
    tehran = NOW.astimezone(timezone(timedelta(hours=3, minutes=30)))
    store.save_dossiers([DossierRecord("aa", "case", "merchant", "cc", b"{}", tehran)])

    found = store.dossier("aa")
    assert found is not None
    assert (found.received_at, found.received_at.utcoffset()) == (NOW, timedelta(0))


def test_holders_are_found_by_identity_or_commitment(pki: PkiFactory) -> None:
    assert identity_of(pki.merchant("M-1").certificate) == "urn:kwbp:merchant:M-1"
    assert identity_of(pki.cardholder("a-commitment").certificate) == "a-commitment"


# --- replicas


def test_an_open_intent_belongs_to_its_replica_until_the_lease_is_over(store: Store) -> None:
    intent = intend(store)
    late = NOW + 4 * MINUTE

    assert store.lease_intent(intent.id, lease("two"), NOW + MINUTE) is None
    renewed = store.lease_intent(intent.id, lease("one", NOW + 5 * MINUTE), NOW + MINUTE)
    assert renewed is not None
    assert store.lease_intent(intent.id, lease("two"), late) is None
    taken = store.lease_intent(intent.id, lease("two", late + MINUTE), NOW + 5 * MINUTE)
    assert taken is not None
    assert (taken.lease_owner, taken.lease_until) == ("two", late + MINUTE)


def test_who_lost_the_lease_neither_finishes_nor_abandons(store: Store, pki: PkiFactory) -> None:
    certificate = pki.merchant().certificate
    mine = intend(store, serial=serial_hex(certificate.serial_number))
    theirs = store.lease_intent(mine.id, lease("two", NOW + 9 * MINUTE), NOW + 4 * MINUTE)
    assert theirs is not None

    with pytest.raises(IntentEndedError):
        finish_intent(store, mine, certificate, NOW)
    with pytest.raises(IntentEndedError):
        store.abandon_intent(mine, "refused", NOW, may_be_signed=True)

    assert store.status.revocations("merchant-ca") == []
    assert finish_intent(store, theirs, certificate, NOW).intent_id == mine.id


def test_an_ended_intent_is_owed_to_the_journal_until_it_is_marked(store: Store) -> None:
    intent = intend(store)
    assert store.unrecorded("one", NOW) == []
    store.abandon_intent(intent, "refused", NOW, may_be_signed=False)

    owed = store.unrecorded("one", NOW)
    assert [each.id for each in owed] == [intent.id]
    assert store.unrecorded("two", NOW) == []
    assert store.unrecorded("two", NOW + 3 * MINUTE) == owed  # its replica is gone

    store.mark_recorded([intent.id])
    assert store.unrecorded("one", NOW) == []


def test_of_many_who_claim_a_serial_a_number_or_an_issuer_at_once_each_gets_its_own(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: reserve_serial(store, "merchant-ca", "7", NOW), range(16)))
        # The row of the issuer is not there yet: all of them would make it.
        taken = list(pool.map(lambda _: store.crls.take_number("merchant-ca", NOW).number, range(32)))
        for serial in range(32):
            reserve_serial(store, "gateway-ca", f"a{serial:02x}", NOW)
        orders = [Wanted("gateway-ca", f"a{n:02x}", "superseded", NOW, "o", b"%d" % n, None, None) for n in range(32)]
        records = list(pool.map(lambda order: store.status.apply(order, NOW), orders))

    assert claims.count(True) == 1
    assert len(set(taken)) == 32
    epochs = [record.epoch for record in records if isinstance(record, RevocationRecord)]
    assert sorted(epochs) == list(range(1, 33))


def test_two_replicas_that_take_over_a_ceremony_at_once_take_it_over_once(store: Store, pki: PkiFactory) -> None:
    certificate = pki.merchant().certificate

    def take_over(_n: int) -> None:
        store.import_certificate(certificate, issuer="merchant-ca", profile="merchant-signing", now=NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take_over, range(8)))

    assert store.count() == 1


def test_a_dossier_that_two_replicas_save_at_once_is_kept_once(store: Store) -> None:
    record = DossierRecord("aa", "case", "merchant", "cc", b"{}", NOW)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.save_dossiers([replace(record, dossier=b"%d" % n)]), range(8)))

    assert store.dossier("aa") is not None


def test_a_reader_waits_for_no_writer_and_sees_one_moment(store: Store, engine: Engine) -> None:
    reserve_serial(store, "merchant-ca", "1", NOW)
    with engine.begin() as writing:
        writing.execute(insert(tables.serials).values(issuer="merchant-ca", serial="2", reserved_at=NOW))
        with reading(engine) as db:
            assert db.execute(select(func.count()).select_from(tables.serials)).scalar_one() == 1
            writing.commit()
            assert db.execute(select(func.count()).select_from(tables.serials)).scalar_one() == 1
    assert not reserve_serial(store, "merchant-ca", "2", NOW)


# --- search


@pytest.fixture
def shelf(store: Store, pki: PkiFactory) -> Store:
    """Seven merchants, stored one minute after the other but the last two, at once; the second is revoked."""
    for n in range(7):
        certificate = merchants(pki)[n]
        store.import_certificate(
            certificate, issuer="merchant-ca", profile="merchant-signing", now=NOW + min(n, 5) * MINUTE
        )
    revoke(store, serial_hex(merchants(pki)[1].serial_number))
    return store


@cache
def merchants(pki: PkiFactory) -> tuple[x509.Certificate, ...]:
    return tuple(pki.merchant(f"M-{n}").certificate for n in range(7))


def test_certificates_are_found_by_everything_that_is_known_of_them(shelf: Store, pki: PkiFactory) -> None:
    wanted = merchants(pki)[3]
    record = shelf.certificate("merchant-ca", serial_hex(wanted.serial_number))
    now, later = pki.now, wanted.not_valid_after_utc + DAY

    assert shelf.search(serial=record.serial) == [record]
    assert shelf.search(identity="urn:kwbp:merchant:M-3") == [record]
    assert shelf.search(sha256=record.sha256, issuer="merchant-ca") == [record]
    assert shelf.search(spki_sha256=record.spki_sha256, profile="merchant-signing") == [record]
    assert shelf.search(serial=record.serial, issuer="gateway-ca") == []
    assert len(shelf.search(subject="o=BOOKSHOP,c=")) == 7
    assert shelf.search(subject=f"CN={common_name(wanted.subject)},") == [record]
    assert shelf.search(subject="100%_") == []
    assert len(shelf.search(status="good", now=now)) == 6
    assert [each.identity for each in shelf.search(status="revoked", now=now)] == ["urn:kwbp:merchant:M-1"]
    assert shelf.search(status="held", now=now) == shelf.search(status="expired", now=now) == []
    assert len(shelf.search(status="expired", now=later)) == 6
    assert len(shelf.search(expires_from=record.not_after, expires_before=record.not_after + DAY)) == 7
    assert shelf.search(expires_before=record.not_after) == []
    records = shelf.search()
    assert Counter(shelf.statuses(records, now)) == {"good": 6, "revoked": 1}
    assert Counter(shelf.statuses(records, later)) == {"expired": 6, "revoked": 1}


def test_pages_follow_each_other_whatever_is_issued_meanwhile(shelf: Store, pki: PkiFactory) -> None:
    first = shelf.search(limit=3)
    newer = pki.merchant("M-8").certificate
    shelf.import_certificate(newer, issuer="merchant-ca", profile="merchant-signing", now=NOW + DAY)
    second = shelf.search(limit=3, after=first[-1].cursor)
    third = shelf.search(limit=3, after=second[-1].cursor)

    assert [len(page) for page in (first, second, third)] == [3, 3, 1]
    assert {each.identity for each in first + second + third} == {f"urn:kwbp:merchant:M-{n}" for n in range(7)}


@pytest.mark.parametrize("cursor", ["", "2026-03-21T12:00:00+00:00", "yesterday/merchant-ca/1", "2026-03-21/m/1"])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(RequestError):
        store.search(after=cursor)


def test_all_certificates_are_read_in_order_in_portions_from_any_of_them(
    shelf: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ca.certificate_store._AT_ONCE", 2)

    everything = list(shelf.iterate())

    assert [each.serial for each in everything] == sorted(each.serial for each in everything)
    assert len(everything) == shelf.count() == 7
    third = everything[2]
    assert list(shelf.iterate(after=(third.issuer, third.serial))) == everything[3:]
