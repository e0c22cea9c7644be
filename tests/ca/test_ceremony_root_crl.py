"""The root's next CRL: its entries only grow, the transcript goes on, and the authority in service takes it over."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca.ceremony import renew_root_crl, verify
from ca.errors import CeremonyError
from ca.hierarchy import load_hierarchy
from tests.support.ceremonies import Rooms, found
from tests.support.judges import openssl


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return Rooms.software()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, rooms: Rooms) -> Path:
    folder = tmp_path_factory.mktemp("founded") / "pki"
    found(folder, rooms)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "pki")
    return tmp_path / "pki"


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_the_next_crl_has_a_higher_number_and_opens_the_root_room_alone(folder: Path, rooms: Rooms) -> None:
    old = x509.load_der_x509_crl((folder / "crls" / "root.crl").read_bytes())
    rooms.opened.clear()

    new = renew_root_crl(folder, root_room=rooms.root_room, clock=later)

    assert rooms.opened == ["root"]
    assert number(new) > number(old)
    text = openssl(
        "crl", "-inform", "DER", "-CAfile", folder / "root.pem", "-noout", "-text", "-in", folder / "crls/root.crl"
    )
    assert b"No Revoked Certificates" in text
    assert verify(folder, now=later()).crls == 7


def test_a_revoked_brand_stays_revoked_on_every_later_crl(folder: Path, rooms: Rooms) -> None:
    brand = load_hierarchy(folder)["brand"].certificate

    first = renew_root_crl(folder, root_room=rooms.root_room, clock=later, revoke=[(brand, "cessationOfOperation")])
    second = renew_root_crl(
        folder, root_room=rooms.root_room, clock=lambda: later() + timedelta(days=1), revoke=[(brand, "superseded")]
    )

    for crl in (first, second):
        entry = crl.get_revoked_certificate_by_serial_number(brand.serial_number)
        assert entry is not None
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason is x509.ReasonFlags.cessation_of_operation


def test_the_root_revokes_only_what_it_certified(folder: Path, rooms: Rooms) -> None:
    hierarchy = load_hierarchy(folder)
    rooms.opened.clear()

    for certificate in (hierarchy["merchant-ca"].certificate, hierarchy.root.certificate):
        with pytest.raises(CeremonyError, match="what it certified"):
            renew_root_crl(folder, root_room=rooms.root_room, clock=later, revoke=[(certificate, "superseded")])
    assert rooms.opened == []


def test_without_a_sound_crl_or_transcript_nothing_is_signed(folder: Path, rooms: Rooms) -> None:
    rooms.opened.clear()
    brand = (folder / "crls" / "brand.crl").read_bytes()
    (folder / "crls" / "root.crl").write_bytes(brand)

    with pytest.raises(CeremonyError, match="cannot be continued"):
        renew_root_crl(folder, root_room=rooms.root_room, clock=later)
    assert rooms.opened == []
