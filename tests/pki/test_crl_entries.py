"""Who is on a list: found by serial number among many, and all of it understood."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from pki.crl_entries import Entries, Revocation
from pki.errors import PathError
from tests.support.der_surgery import Node, parse
from tests.support.pki_factory import NOW, p256

KEY = p256()
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])


def entry(serial: int, at: datetime = NOW, *extensions: x509.ExtensionType) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.build()


def der(*listed: x509.RevokedCertificate) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(NAME).last_update(NOW)
    builder = builder.next_update(NOW + timedelta(days=1)).add_extension(x509.CRLNumber(1), critical=False)
    for each in listed:
        builder = builder.add_revoked_certificate(each)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_listed_serial_is_found_with_date_reason_and_invalidity_date() -> None:
    since = NOW - timedelta(days=3)
    listed = Entries(
        der(
            entry(7),
            entry(5, NOW, x509.CRLReason(x509.ReasonFlags.certificate_hold)),
            entry(6, NOW, x509.InvalidityDate(since), x509.CRLReason(x509.ReasonFlags.key_compromise)),
        )
    )
    assert len(listed) == 3
    assert listed.get(7) == Revocation(NOW)
    assert listed.get(5) == Revocation(NOW, x509.ReasonFlags.certificate_hold)
    assert listed.get(6) == Revocation(NOW, x509.ReasonFlags.key_compromise, since)
    assert [found.held for serial in (5, 6, 7) if (found := listed.get(serial))] == [True, False, False]


@given(st.sets(st.integers(1, 2**159 - 1), max_size=30), st.integers(1, 2**159 - 1))
def test_exactly_the_listed_serials_are_found(serials: set[int], other: int) -> None:
    listed = Entries(der(*map(entry, serials)))
    assert len(listed) == len(serials)
    assert all(serial in listed for serial in serials)
    assert (other in listed) == (other in serials)


def test_neighbours_and_what_is_no_serial_are_not_found() -> None:
    listed = Entries(der(entry(255), entry(256)))
    assert [serial for serial in (-1, 0, 254, 255, 256, 257, 65535, 2**200) if serial in listed] == [255, 256]
    assert "255" not in listed


def test_a_negative_serial_is_another_than_the_positive_with_the_same_low_octets() -> None:
    tree = parse(der(entry(127)))
    tree.at(0, 5, 0, 0).content = b"\xff"
    listed = Entries(tree.encode())
    assert [serial for serial in (-1, 127, 255) if serial in listed] == [-1]


def test_dates_after_2049_are_read() -> None:
    at = datetime(2050, 1, 1, tzinfo=UTC)
    assert Entries(der(entry(5, at))).get(5) == Revocation(at)


@pytest.mark.parametrize("without_next_update", [False, True])
def test_a_list_without_entries_lists_nobody(without_next_update: bool) -> None:
    tree = parse(der())
    if without_next_update:
        del tree.at(0).children[4]
    listed = Entries(tree.encode())
    assert len(listed) == 0
    assert 5 not in listed


def test_a_list_without_version_and_next_update_is_read() -> None:
    tree = parse(der(entry(5)))
    del tree.at(0).children[6], tree.at(0).children[4], tree.at(0).children[0]
    x509.load_der_x509_crl(tree.encode())
    assert 5 in Entries(tree.encode())


def reason(value: bytes) -> Node:
    return parse(bytes.fromhex("300c300a0603551d150403") + value)


def extension(oid: str, value: bytes, critical: bool = False) -> Node:
    made = parse(bytes.fromhex("300a30080603551d") + bytes.fromhex(oid) + b"\x04\x01\x00")
    made.at(0, 1).content = value
    if critical:
        made.at(0).children.insert(1, Node(0x01, b"\xff"))
    return made


def too_long(tree: Node) -> None:
    tree.at(0, 5, 0, 0).content = b"\x01" * 22


def add(node: Node) -> Callable[[Node], None]:
    return lambda tree: tree.at(0, 5, 0).children.append(node)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param(too_long, "bad_extension", id="serial-of-22-octets"),
        pytest.param(add(reason(b"\x02\x01\x01")), "bad_extension", id="reason-as-integer"),
        pytest.param(add(reason(b"\x0a\x01\x07")), "bad_extension", id="reason-7-is-not-used"),
        pytest.param(add(extension("15", b"\x0a\x02\x00\x01")), "bad_extension", id="reason-too-long"),
        pytest.param(add(extension("18", b"\x17\x01Z")), "bad_extension", id="invalidity-date-is-no-time"),
        pytest.param(add(parse(b"\x30\x05\x30\x03\x06\x01\x2a")), "bad_extension", id="extension-without-value"),
        pytest.param(add(extension("1d", b"\x30\x00", True)), "unknown_critical_extension", id="certificate-issuer"),
    ],
)
def test_an_entry_that_is_not_understood_spoils_the_list(change: Callable[[Node], None], refusal: str) -> None:
    tree = parse(der(entry(5)))
    change(tree)
    with pytest.raises(PathError) as error:
        Entries(tree.encode())
    assert error.value.reason == refusal


def test_extensions_that_are_not_critical_are_passed_over() -> None:
    tree = parse(der(entry(5)))
    add(extension("17", b"\x05\x00"))(tree)
    assert Entries(tree.encode()).get(5) == Revocation(NOW)
