"""CRLs: full, numbered upwards whatever happens, read by every judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.crl import next_number, prepare_crl
from ca.prepare import Issuer
from ca.profile import CrlRule
from pki.builder import assemble_crl
from tests.support.judges import certtool, openssl
from tests.support.pki_factory import PkiFactory
from tests.support.software_signing import raw_signature

RULE = CrlRule(lifetime=timedelta(days=2), renew_before=timedelta(days=1), backdate=timedelta(minutes=1))


@dataclass(frozen=True)
class Entry:
    serial: str
    reason: str
    revoked_at: datetime
    invalidity_date: datetime | None = None


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


def crl(pki: PkiFactory, *entries: Entry, now: datetime | None = None) -> x509.CertificateRevocationList:
    issuer = Issuer("merchant-ca", pki.merchant_ca.certificate)
    key = pki.merchant_ca.credential.key
    tbs = prepare_crl(issuer, number=7, revoked=entries, rule=RULE, now=now or pki.now)
    return x509.load_der_x509_crl(assemble_crl(tbs, raw_signature(key, tbs), key.public_key()))


def test_a_crl_lists_serial_reason_and_dates(pki: PkiFactory) -> None:
    known_since = pki.now - timedelta(days=3)
    made = crl(
        pki,
        Entry("ab12", "keyCompromise", pki.now, known_since),
        Entry("1", "unspecified", pki.now - timedelta(hours=1)),
    )

    first, second = made
    assert first.serial_number == 0xAB12
    assert first.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert first.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == known_since
    assert first.revocation_date_utc == pki.now
    assert list(second.extensions) == []  # RFC 5280 5.3.1: absent, not "unspecified"


def test_a_crl_says_who_signed_it_and_how_long_it_serves(pki: PkiFactory) -> None:
    made = crl(pki)

    key_id = pki.merchant_ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == key_id
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    assert made.last_update_utc == pki.now - timedelta(minutes=1)
    assert made.next_update_utc == pki.now + timedelta(days=2)


def test_a_crl_neither_begins_before_nor_outlives_its_authority(pki: PkiFactory) -> None:
    authority = pki.merchant_ca.certificate

    assert crl(pki, now=authority.not_valid_before_utc).last_update_utc == authority.not_valid_before_utc
    assert (
        crl(pki, now=authority.not_valid_after_utc - timedelta(hours=1)).next_update_utc
        == authority.not_valid_after_utc
    )


def test_judges_read_it(pki: PkiFactory) -> None:
    der = crl(pki, Entry("ab12", "keyCompromise", pki.now)).public_bytes(Encoding.DER)

    text = openssl("crl", "-inform", "DER", "-noout", "-text", stdin=der).decode()
    assert "Serial Number: AB12" in text
    assert "Key Compromise" in text
    assert b"ab12" in certtool("--inder", "--crl-info", stdin=der)


def test_numbers_grow_even_within_a_second_and_after_a_restored_backup() -> None:
    now = datetime.fromisoformat("2026-03-21T12:00:00+00:00")
    first = next_number(None, now)

    assert next_number(first, now) == first + 1
    assert next_number(5, now) == first  # a database from long ago
    assert next_number(first + 100, now) == first + 101
