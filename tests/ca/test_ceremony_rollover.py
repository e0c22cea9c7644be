"""After the next root was made: who believes it, which lists it signs, what it certifies, and what is kept out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import _ceremony_certificates, _profile_of
from ca.errors import StoreError
from ca.hierarchy import load_hierarchy
from ca.published_trust import published_trust
from cli import wallet_roots
from hsm_service.vault import _read_anchors
from pki.path import Trust, validate_path
from pki.roles import Role
from runtime.secrets import Secret
from storefront.wallet.keys import no_tokens
from storefront.wallet.wallet import Wallet
from tests.ca.test_ceremony_acts import World
from tests.ca.test_ceremony_acts import founded as founded
from tests.ca.test_ceremony_acts import world as world
from tests.support.ceremonies import found

PASSPHRASE = Secret(b"correct horse")
ROOT_3 = {"name": "root-3", "profile": "root", "template": "root-ca", "common_name": "KWBP Root CA 3"}
BRAND_2 = {
    "name": "brand-2",
    "profile": "brand",
    "issuer": "root-2",
    "template": "brand-ca",
    "common_name": "KWBP Brand CA 2",
}


def roots(folder: Path) -> list[str]:
    return [each.name for each in load_hierarchy(folder).authorities.values() if each.is_root]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def test_whoever_pins_the_root_believes_what_the_next_one_certified(world: World, tmp_path: Path) -> None:
    world.run("rollover")
    world.run("sub-ca-merchant", authorities=[BRAND_2])

    assert world.rooms.opened == ["service", "root", "service"]
    assert roots(world.folder) == ["root", "root-2"]
    brand = certificate(world.folder / "cas" / "brand-2.pem")
    path = validate_path(brand, trust=published_trust(world.folder), now=world.now(), roles=[Role.BRAND])
    assert path.root == load_hierarchy(world.folder)["root-2"].certificate
    anchors = load_hierarchy(world.folder).anchors
    assert _read_anchors(world.folder / "root.pem") == list(anchors)

    Wallet.create(tmp_path / "wallet", PASSPHRASE, root=anchors[0])
    opened = Wallet.open(tmp_path / "wallet", PASSPHRASE)
    assert wallet_roots.follow(opened, PASSPHRASE, anchors, no_tokens).roots == anchors
    believed = Wallet.open(tmp_path / "wallet", PASSPHRASE).roots  # for good, not because the folder shows it
    trust = Trust(believed, published_trust(world.folder).intermediates, published_trust(world.folder).crls)
    assert validate_path(brand, trust=trust, now=world.now(), roles=[Role.BRAND]).root == anchors[1]
    world.verify()


def test_the_next_root_goes_on_with_its_own_list(world: World) -> None:
    world.run("rollover")
    world.run("sub-ca-merchant", authorities=[BRAND_2])
    before = (world.folder / "crls" / "root.crl").read_bytes()

    revoke = [{"certificate": "cas/brand-2", "reason": "cACompromise"}]
    world.run("root-crl", root="root-2", revoke=revoke)
    world.offset += timedelta(days=1)
    world.run("root-crl", root="root-2")

    crl = x509.load_der_x509_crl((world.folder / "crls" / "root-2.crl").read_bytes())
    assert [entry.serial_number for entry in crl] == [certificate(world.folder / "cas" / "brand-2.pem").serial_number]
    assert (world.folder / "crls" / "root.crl").read_bytes() == before
    world.verify()
    assert world.findings("root-crl", revoke=revoke) == ["not-certified-by-root"]
    assert world.findings("root-crl", root="root-3") == ["root-unknown"]
    assert world.findings("root-crl", root="brand") == ["root-unknown"]


def test_a_root_that_was_not_named_is_refused_before_a_token_is_touched(world: World) -> None:
    following = {"name": "root-4", "template": "root-ca"}

    assert world.findings("rollover", root=ROOT_3, next_root=following) == ["not-next-root"]


def skipped(world: World, folder: Path) -> None:
    (folder / "root-2.cer").unlink()


def strange(world: World, folder: Path) -> None:
    brand = certificate(world.folder / "cas" / "brand.pem")
    (folder / "root-9.cer").write_bytes(brand.public_bytes(Encoding.DER))


def older(world: World, folder: Path) -> None:
    root = certificate(world.folder / "root.pem")
    (folder / "root-9.cer").write_bytes(root.public_bytes(Encoding.DER))


def garbage(world: World, folder: Path) -> None:
    (folder / "root-9.cer").write_bytes(b"\x30\x03garbage")


@pytest.mark.parametrize("change", [skipped, strange, older, garbage])
def test_a_file_among_the_roots_that_does_not_follow_is_believed_by_nobody(
    world: World, change: Callable[[World, Path], None]
) -> None:
    world.run("rollover")
    world.run("rollover", root=ROOT_3, next_root={"name": "root-4", "template": "root-ca"})
    anchors = list(load_hierarchy(world.folder).anchors)
    assert len(anchors) == 3

    change(world, world.folder / "roots")

    believed = _read_anchors(world.folder / "root.pem")
    assert believed == (anchors[:1] if change is skipped else anchors)
    with pytest.raises(StoreError):
        load_hierarchy(world.folder)


def test_two_authorities_of_one_name_are_no_hierarchy(world: World) -> None:
    world.run("rollover")
    shutil.copyfile(world.folder / "cas" / "brand.pem", world.folder / "cas" / "root-2.pem")

    with pytest.raises(StoreError, match="another authority root-2"):
        load_hierarchy(world.folder)


def test_the_authority_in_service_knows_the_profile_of_everything_that_ceremonies_certified(world: World) -> None:
    for name in ("rollover", "key-tsa", "key-ocsp-brand", "sub-ca-geopolitical"):
        world.run(name)
    hierarchy = load_hierarchy(world.folder)

    found = {}
    for each in _ceremony_certificates(world.folder):
        issuer = next(one.name for one in hierarchy.authorities.values() if one.certificate.subject == each.issuer)
        found[each.subject.rfc4514_string().split(",")[0]] = (issuer, _profile_of(each, issuer).name)

    assert found["CN=KWBP Merchant CA of the Region"] == ("geopolitical", "merchant-ca")
    assert found["CN=KWBP time-stamp authority 2"] == ("operations-ca", "timestamp-authority")


def test_an_interruption_does_not_shorten_the_wait_of_a_destruction(world: World) -> None:
    world.run("key-tsa")
    late: list[datetime] = []

    def clock() -> datetime:
        late.append(world.now() + timedelta(hours=len(late)))  # between any two looks, an hour passes
        return late[-1]

    plan: Any = world.plan("destroy", wait="P1D")
    done = found(world.folder, world.rooms, plan, clock=clock)

    entry = next(each for each in done.transcript.entries if each.step == "schedule tsa-2/1")
    assert datetime.fromisoformat(entry.outcome["destroy_at"]) > entry.at + timedelta(days=1, minutes=30)
