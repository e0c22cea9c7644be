"""The authority in service: it starts over what a ceremony left, works without its token, and looks after itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.errors import StoreError
from ca.record import Record
from hsm_service.service import KeyInfo
from runtime.problems import Problem
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.pki_factory import PkiFactory, pem
from tests.support.software_signing import SoftwareSigning


def test_it_knows_every_certificate_of_the_ceremony(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office, start=False)
    (world.folder / "officers").mkdir()
    login = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    officer = office.pki.officer("founder-1", replace={"login": (login, False)})
    (world.folder / "officers" / "founder-1.pem").write_bytes(pem(officer.certificate, *officer.chain))
    world.authority.start()

    assert [found.profile for found in world.authority.store.search(identity="urn:kwbp:officer:founder-1")] == [
        "officer"
    ]
    brand = office.pki.brand.certificate
    assert world.authority.story("root", format(brand.serial_number, "x")).certificate.profile == "brand"
    world.close()


def test_a_certificate_of_a_stranger_in_the_folder_stops_the_start(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office, start=False)
    (world.folder / "services").mkdir()
    stranger = PkiFactory(brand="Other").service("spy").certificate
    (world.folder / "services" / "spy.pem").write_bytes(pem(stranger))

    with pytest.raises(StoreError, match="none of our authorities"):
        world.authority.start()
    world.close()


class Dead:
    """A token boundary that is away."""

    def __init__(self, _keys: SoftwareSigning) -> None:
        pass

    def list_versions(self, _name: str) -> list[KeyInfo]:
        raise Problem(503, "hsm-unreachable", "the HSM service does not answer")

    def sign_cms(self, *_arguments: object) -> bytes:
        raise Problem(503, "hsm-unreachable", "the HSM service does not answer")


def test_it_starts_while_the_token_is_away_and_is_not_ready(tmp_path: Path, office: Office) -> None:
    signer: Any = Dead
    world = CaWorld(tmp_path, office, signer=signer)

    assert not world.authority.is_ready()
    world.close()


def test_an_event_is_recorded_once_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "ca.jsonl"
    record = Record.open(path)
    first = record.note("ca.issued", "7", serial="ab")
    assert record.note("ca.issued", "7", serial="ab") == first
    assert record.note("ca.issued", "8") == first + 1
    record.close()

    again = Record.open(path)

    assert again.note("ca.issued", "7") == first
    assert again.numbers_of("7") == {"ca.issued": first}
    again.close()
    assert len(path.read_bytes().splitlines()) == 2


def test_a_root_without_its_transcripted_crl_is_still_an_authority(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office, start=False)
    (world.folder / "crls" / "root.crl").unlink()
    world.authority.start()

    assert not world.authority.is_ready()
    crls = {path.stem for path in (world.folder / "crls").glob("*.crl")}
    assert crls == {"brand", "cardholder-ca", "merchant-ca", "gateway-ca", "operations-ca"}
    world.close()
