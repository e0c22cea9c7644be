"""What must be unique is unique in the database, whatever the code above it does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ca.errors import KeyRefusedError, StoreError, UnknownCertificateError
from ca.store import (
    CrlRecord,
    DossierRecord,
    Intent,
    NewIntent,
    RevocationRecord,
    Store,
    identity_of,
    serial_hex,
)
from runtime.database import open_database
from tests.support.pki_factory import PkiFactory

NOW = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(tmp_path / "ca.db")
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


def intend(
    store: Store, *, revision: str = "aa", purpose: str = "signing", serial: str = "1", spki: str = "11"
) -> Intent:
    store.save_dossier(DossierRecord(revision, f"case-{revision}", "merchant", "cc", b"{}", NOW))
    store.reserve_serial("merchant-ca", serial, NOW)
    new = NewIntent(
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
    return store.open_intent(new, NOW)


def revocation(serial: str = "1") -> RevocationRecord:
    return RevocationRecord("merchant-ca", serial, "superseded", NOW, None, b"cms", "officer-1", False)


def test_a_serial_is_reserved_once_for_an_issuer(store: Store) -> None:
    assert store.reserve_serial("merchant-ca", "1", NOW)
    assert not store.reserve_serial("merchant-ca", "1", NOW)
    assert store.reserve_serial("gateway-ca", "1", NOW)


def test_an_intent_reads_back_as_it_was_written(store: Store, engine: Engine) -> None:
    intent = intend(store)

    again = Store(engine).intent(intent.id)
    assert again == intent
    assert intent.lints == ("serial", "key")
    assert intent.approvals == ({"step": "vet", "person": "officer-1"},)
    assert intent.intended_at == NOW


def test_a_purpose_of_a_revision_has_one_live_intent(store: Store) -> None:
    first = intend(store)
    with pytest.raises(StoreError, match="being issued already"):
        intend(store, serial="2", spki="22")

    store.abandon_intent(first, "refused", NOW, may_be_signed=False)

    assert intend(store, serial="2", spki="22").state == "open"
    assert set(store.live_intents("aa")) == {"signing"}


def test_two_intents_cannot_share_a_serial(store: Store) -> None:
    intend(store)
    with pytest.raises(StoreError):
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
    assert store.add_revocation(revocation(serial), denylist_spki="99")

    with pytest.raises(KeyRefusedError, match="compromised"):
        intend(store, spki="99")


def test_an_intent_ends_once(store: Store, pki: PkiFactory) -> None:
    certificate = pki.merchant().certificate
    intent = intend(store, serial=serial_hex(certificate.serial_number))
    store.finish_intent(intent, certificate, NOW)

    with pytest.raises(StoreError, match="ended already"):
        store.finish_intent(intent, certificate, NOW)
    with pytest.raises(StoreError, match="ended already"):
        store.abandon_intent(intent, "late", NOW, may_be_signed=True)
    assert store.revocations("merchant-ca") == []


def test_a_serial_that_may_be_signed_is_revoked_with_its_intent(store: Store) -> None:
    store.abandon_intent(intend(store), "compare", NOW, may_be_signed=True)

    found = store.revocation("merchant-ca", "1")
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


def test_a_serial_is_revoked_once(store: Store) -> None:
    store.reserve_serial("merchant-ca", "1", NOW)

    assert store.add_revocation(revocation(), denylist_spki="99")
    assert not store.add_revocation(revocation(), denylist_spki="99")


def test_crl_numbers_grow_and_what_they_list_counts_as_published(store: Store) -> None:
    store.reserve_serial("merchant-ca", "1", NOW)
    store.add_revocation(revocation(), denylist_spki=None)
    crl = CrlRecord("merchant-ca", 5, "aa", NOW, NOW + timedelta(days=2), b"crl")
    store.add_crl(crl, ["1"])

    assert [each.published for each in store.revocations("merchant-ca")] == [True]
    assert store.latest_crl("merchant-ca") == crl
    with pytest.raises(StoreError, match="does not follow 5"):
        store.add_crl(crl, [])


def test_an_unknown_certificate_is_an_error_of_its_own(store: Store) -> None:
    with pytest.raises(UnknownCertificateError):
        store.certificate("merchant-ca", "1")
    assert store.intent(1) is None
    assert store.dossier("aa") is None
    assert store.revocation("merchant-ca", "1") is None
    assert store.latest_crl("merchant-ca") is None


def test_times_keep_their_instant_whatever_zone_they_came_in(store: Store) -> None:
    tehran = NOW.astimezone(timezone(timedelta(hours=3, minutes=30)))
    store.save_dossier(DossierRecord("aa", "case", "merchant", "cc", b"{}", tehran))

    found = store.dossier("aa")
    assert found is not None
    assert (found.received_at, found.received_at.utcoffset()) == (NOW, timedelta(0))


def test_holders_are_found_by_identity_or_commitment(pki: PkiFactory) -> None:
    assert identity_of(pki.merchant("M-1").certificate) == "urn:kwbp:merchant:M-1"
    assert identity_of(pki.cardholder("a-commitment").certificate) == "a-commitment"
