"""CRLs: full, delta and partitioned, numbered upwards whatever happens, written as every judge reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.crl import FULL_SCOPE, CrlScope, entry_der, next_number, prepare_crl, shard
from ca.crl_outline import crl_outline
from ca.prepare import Issuer
from ca.profile import CrlRule
from pki.builder import assemble_crl, tbs_crl
from tests.support.judges import attime, certtool, openssl, run
from tests.support.pki_factory import PkiFactory, pem
from tests.support.software_signing import raw_signature

RULE = CrlRule(lifetime=timedelta(days=2), renew_before=timedelta(days=1), backdate=timedelta(minutes=1))
URL = "http://repository.example/crls/merchant-ca/partition-1.crl"
DELTA_URL = "http://repository.example/crls/merchant-ca/delta.crl"


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory(now=datetime.now(UTC).replace(microsecond=0))  # certtool looks at the machine's clock


def crl(
    pki: PkiFactory,
    *entries: bytes,
    number: int = 7,
    now: datetime | None = None,
    scope: CrlScope = FULL_SCOPE,
) -> x509.CertificateRevocationList:
    issuer = Issuer("merchant-ca", pki.merchant_ca.certificate)
    key = pki.merchant_ca.credential.key
    tbs = prepare_crl(issuer, number=number, entries=entries, rule=RULE, now=now or pki.now, scope=scope)
    return x509.load_der_x509_crl(assemble_crl(tbs, raw_signature(key, tbs), key.public_key()))


def test_a_crl_lists_serial_reason_and_dates(pki: PkiFactory) -> None:
    known_since = pki.now - timedelta(days=3)
    made = crl(
        pki,
        entry_der("ab12", pki.now, "keyCompromise", known_since),
        entry_der("1", pki.now - timedelta(hours=1), "unspecified"),
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


REASONS = ["unspecified", "keyCompromise", "certificateHold", "cessationOfOperation", "privilegeWithdrawn"]
ENTRIES = st.lists(
    st.tuples(
        st.integers(1, (1 << 159) - 1),
        st.integers(0, 10**6),
        st.sampled_from(REASONS),
        st.none() | st.integers(0, 10**6),
    ),
    max_size=20,
    unique_by=lambda entry: entry[0],
)
SCOPES = [FULL_SCOPE, CrlScope(base=6), CrlScope(address=URL), CrlScope(freshest=DELTA_URL)]


@settings(max_examples=60, deadline=None)
@given(entries=ENTRIES, scope=st.sampled_from(SCOPES), number=st.integers(7, 1 << 62))
def test_the_bytes_are_those_of_another_encoder(
    pki: PkiFactory, entries: Sequence[tuple[int, int, str, int | None]], scope: CrlScope, number: int
) -> None:
    key = pki.merchant_ca.credential.key
    certificate = pki.merchant_ca.certificate
    ours = []
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(pki.now - RULE.backdate)
        .next_update(pki.now + RULE.lifetime)
    )
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    named = x509.AuthorityKeyIdentifier(identifier.digest, None, None)
    builder = builder.add_extension(named, critical=False).add_extension(x509.CRLNumber(number), critical=False)
    if scope.base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(scope.base), critical=True)
    if scope.address is not None:
        names = [x509.UniformResourceIdentifier(scope.address)]
        point = x509.IssuingDistributionPoint(names, None, False, False, None, False, False)
        builder = builder.add_extension(point, critical=True)
    if scope.freshest is not None:
        names = [x509.UniformResourceIdentifier(scope.freshest)]
        freshest = x509.FreshestCRL([x509.DistributionPoint(names, None, None, None)])
        builder = builder.add_extension(freshest, critical=False)
    for serial, ago, reason, since in entries:
        at = pki.now - timedelta(seconds=ago)
        known = None if since is None else pki.now - timedelta(seconds=since)
        ours.append(entry_der(format(serial, "x"), at, reason, known))
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        if reason != "unspecified":
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
        if known is not None:
            entry = entry.add_extension(x509.InvalidityDate(known), critical=False)
        builder = builder.add_revoked_certificate(entry.build())

    made = crl(pki, *ours, number=number, scope=scope)

    assert made.tbs_certlist_bytes == tbs_crl(builder, key.public_key())


@pytest.mark.parametrize("scope", SCOPES, ids=["full", "delta", "partition", "full with deltas"])
def test_judges_read_it(pki: PkiFactory, scope: CrlScope) -> None:
    der = crl(pki, entry_der("ab12", pki.now, "keyCompromise"), scope=scope).public_bytes(Encoding.DER)

    text = openssl("crl", "-inform", "DER", "-noout", "-text", stdin=der).decode()
    assert "Serial Number: AB12" in text
    assert "Key Compromise" in text
    assert b"ab12" in certtool("--inder", "--crl-info", stdin=der)


def test_openssl_judges_by_base_and_delta(pki: PkiFactory, tmp_path: Path) -> None:
    held, revoked, good = (pki.merchant(f"M-{number}").certificate for number in range(3))
    hour = timedelta(hours=1)
    base = crl(
        pki,
        entry_der(format(held.serial_number, "x"), pki.now - hour, "certificateHold"),
        number=7,
        scope=CrlScope(freshest=DELTA_URL),
    )
    delta = crl(
        pki,
        entry_der(format(held.serial_number, "x"), pki.now, "removeFromCRL"),
        entry_der(format(revoked.serial_number, "x"), pki.now, "keyCompromise"),
        number=8,
        scope=CrlScope(base=7),
    )
    (tmp_path / "root").write_bytes(pem(pki.root.certificate))
    (tmp_path / "chain").write_bytes(pem(pki.merchant_ca.certificate) + pem(pki.brand.certificate))
    (tmp_path / "lists").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (base, delta)))

    def verdict(certificate: x509.Certificate, *options: str) -> str:
        (tmp_path / "leaf").write_bytes(pem(certificate))
        done = run(
            "openssl", "verify", *attime(pki.now), "-crl_check", *options, "-CAfile", tmp_path / "root",
            "-untrusted", tmp_path / "chain", "-CRLfile", tmp_path / "lists", tmp_path / "leaf",
        )  # fmt: skip
        return (done.stdout + done.stderr).decode()

    assert "certificate revoked" in verdict(held)
    assert "OK" in verdict(held, "-use_deltas")
    assert "certificate revoked" in verdict(revoked, "-use_deltas")
    assert "OK" in verdict(good, "-use_deltas", "-extended_crl")


def test_numbers_grow_even_within_a_second_and_after_a_restored_backup() -> None:
    now = datetime.fromisoformat("2026-03-21T12:00:00+00:00")
    first = next_number(None, now)

    assert next_number(first, now) == first + 1
    assert next_number(5, now) == first  # a database from long ago
    assert next_number(first + 100, now) == first + 101


@given(serial=st.integers(1, (1 << 128) - 1), partitions=st.sampled_from([1, 2, 4, 8, 16]))
def test_a_serial_is_in_the_partition_that_its_certificate_names(serial: int, partitions: int) -> None:
    assert shard(format(serial, "x"), partitions) == serial % partitions


@pytest.mark.parametrize("scope", SCOPES, ids=["full", "delta", "partition", "full with deltas"])
@pytest.mark.parametrize("entries", [0, 1, 300])
def test_what_a_list_says_of_itself_is_read_around_its_entries(
    pki: PkiFactory, scope: CrlScope, entries: int, tmp_path: Path
) -> None:
    listed = [entry_der(format(serial, "x"), pki.now, "superseded") for serial in range(1, entries + 1)]
    made = crl(pki, *listed, scope=scope)
    (tmp_path / "list").write_bytes(made.public_bytes(Encoding.DER))

    with (tmp_path / "list").open("rb") as file:
        outline = crl_outline(file)

    assert (outline.number, outline.base_number) == (7, scope.base)
    assert (outline.this_update, outline.next_update) == (made.last_update_utc, made.next_update_utc)


@pytest.mark.parametrize(
    "der",
    [b"", b"\x30\x80", b"\x30\x03\x30\x01\x05", b"\x30\x84\xff\xff\xff\xff\x30\x84\xff\xff\xff\xf0\x30\x82\xff\xff"],
    ids=["nothing", "indefinite length", "a list of nothing", "no end"],
)
def test_what_is_no_list_has_no_outline(der: bytes, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(der)

    with (tmp_path / "list").open("rb") as file, pytest.raises(ValueError):
        crl_outline(file)
