"""CRLs are there from the first start, renewed before they end, and the folder always shows the newest."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import StoreError
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office

AUTHORITIES = ["brand", "cardholder-ca", "gateway-ca", "merchant-ca", "operations-ca", "root"]


def numbers(world: CaWorld) -> dict[str, int]:
    crls = {path.stem: x509.load_der_x509_crl(path.read_bytes()) for path in (world.folder / "crls").glob("*.crl")}
    return {name: crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for name, crl in crls.items()}


def test_after_the_first_start_every_authority_has_a_crl(world: CaWorld) -> None:
    assert sorted(numbers(world)) == AUTHORITIES
    assert world.authority.is_ready()


def test_a_current_crl_is_left_alone(world: CaWorld) -> None:
    before = numbers(world)
    world.clock.forward(timedelta(hours=23))
    world.authority.maintain()

    assert numbers(world) == before


def test_a_crl_is_renewed_a_day_before_it_ends(world: CaWorld) -> None:
    before = numbers(world)
    world.clock.forward(timedelta(hours=24))
    world.authority.maintain()
    after = numbers(world)

    assert {name for name in after if after[name] > before[name]} == {*AUTHORITIES} - {"root"}


def test_without_the_roots_ceremony_the_authority_ends_up_not_ready(world: CaWorld) -> None:
    world.clock.forward(timedelta(days=400))
    world.authority.maintain()

    assert not world.authority.is_ready()


def test_the_roots_new_crl_is_taken_over_from_the_folder(world: CaWorld, office: Office) -> None:
    newer = office.pki.root.crl(office.now, number=99).public_bytes(Encoding.DER)
    (world.folder / "crls" / "root.crl").write_bytes(newer)

    world.authority.maintain()

    latest = world.authority.store.crls.latest("root")
    assert latest is not None
    assert latest.der == newer


def test_a_crl_of_somebody_else_in_the_folder_stops_the_start(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    foreign = office.pki.merchant_ca.crl(office.now).public_bytes(Encoding.DER)
    (world.folder / "crls" / "root.crl").write_bytes(foreign)

    with pytest.raises(StoreError, match="not a CRL of root"):
        world.authority.start()
    world.close()


def test_a_lost_or_older_file_is_put_back_at_the_next_start(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    before = numbers(world)
    (world.folder / "crls" / "merchant-ca.crl").unlink()
    old = office.pki.gateway_ca.crl(office.now, number=1).public_bytes(Encoding.DER)
    (world.folder / "crls" / "gateway-ca.crl").write_bytes(old)
    world.close()

    again = CaWorld(tmp_path, office)

    assert numbers(again) == before
    again.close()


def test_a_database_from_a_backup_does_not_forget_what_its_crls_revoked(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    certificate = world.authority.issuance.issue(world.approved_merchant())["signing"].certificate
    world.authority.revocation.apply(office.revocation(certificate, office.vetter))
    world.close()
    for path in (tmp_path / "db").iterdir():
        path.unlink()

    again = CaWorld(tmp_path, office)
    again.authority.publisher.publish("merchant-ca")

    crl = x509.load_der_x509_crl((again.folder / "crls" / "merchant-ca.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    kept = again.authority.store.status.revocation("merchant-ca", format(certificate.serial_number, "x"))
    assert kept is not None
    assert (kept.reason, kept.order) == ("keyCompromise", None)
    again.close()


def test_a_brand_revoked_at_a_ceremony_is_revoked_in_our_records(world: CaWorld, office: Office) -> None:
    brand = office.pki.brand.certificate.serial_number
    office.pki.root.revoked[brand] = office.now
    try:
        newer = office.pki.root.crl(office.now, number=99).public_bytes(Encoding.DER)
    finally:
        del office.pki.root.revoked[brand]
    (world.folder / "crls" / "root.crl").write_bytes(newer)
    world.authority.maintain()

    assert world.authority.story("root", format(brand, "x")).revocation is not None


def test_each_crl_is_on_record_once(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    world.authority.publisher.publish("merchant-ca")
    world.close()

    assert (tmp_path / "audit" / "ca.jsonl").read_text().count('"ca.crl"') == 10  # five, four partitions, one
