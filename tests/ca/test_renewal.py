"""Responders get their next certificates in time, once, and nothing is lost when the process ends in between."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import delete, select

from ca import tables
from ca.ocsp_policy import ocsp_policy
from ca.ocsp_presign import Presigner
from ca.ocsp_store import OcspStore
from ca.ocsp_work import ocsp_work
from ca.prepare import new_serial, prepare
from ca.profile import profiles
from ca.renewal import Renewal
from cps.entitlement import Holder
from hsm_service.service import Basis
from pki.builder import assemble_certificate
from pki.names import name
from runtime.problems import Problem
from statements.published import founding_only
from tests.support.ca_world import PUBLICATION, CaWorld
from tests.support.cps_cases import Office
from tests.support.software_signing import SoftwareSigning, generate, raw_signature

KEY = "ocsp-merchant-ca"
DAY = timedelta(days=1)


def found(world: CaWorld, key: str, profile_name: str, authority: str, at: datetime) -> x509.Certificate:
    """A key in service whose certificate the founding ceremony made at `at`."""
    profile = profiles()[profile_name]
    private: Any = generate("ec-p256")
    holder = Holder(private.public_key(), name(cn=f"Status {key}", o="KWBP Test"))
    issuer = world.authority.hierarchy[authority].issuer
    tbs = prepare(profile, holder, issuer=issuer, serial=new_serial(os.urandom), now=at, publication=PUBLICATION)
    credential = next(each for each in world.pki.authorities if each.role == authority).credential
    signed = assemble_certificate(tbs, raw_signature(credential.key, tbs), credential.key.public_key())
    certificate = x509.load_der_x509_certificate(signed)
    template = "timestamp-authority" if key == "tsa" else "ocsp-responder"
    world.keys.adopt(key, template, private, (certificate, credential.certificate, *credential.chain))
    world.authority.store.import_certificate(certificate, issuer=authority, profile=profile_name, now=world.clock())
    return certificate


def renewal(world: CaWorld, signer: Any = None) -> Renewal:
    keys: Any = signer or world.keys
    return Renewal(
        engine=world.engine,
        hierarchy=world.authority.hierarchy,
        signer=keys,
        record=world.record,
        publication=PUBLICATION,
        statements=founding_only(),
        folder=world.folder,
        rng=os.urandom,
    )


@pytest.fixture
def world(tmp_path: Path, office: Office) -> Iterator[CaWorld]:
    made = CaWorld(tmp_path, office)
    (made.folder / "keys").mkdir()
    yield made
    made.close()


def in_use(world: CaWorld, key: str = KEY) -> x509.Certificate:
    return x509.load_der_x509_certificate(world.keys.describe_key(key).certificate_chain[0])


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(world: CaWorld) -> None:
    first = found(world, KEY, KEY, "merchant-ca", world.clock())
    world.clock.forward(19 * DAY)
    assert renewal(world).renew_due(world.clock()) == []
    world.clock.forward(DAY)
    assert renewal(world).renew_due(world.clock()) == [KEY]

    second = in_use(world)
    assert second.public_key() == first.public_key()
    assert second.subject == first.subject
    assert second.not_valid_after_utc == first.not_valid_after_utc + 20 * DAY
    record = world.authority.store.certificate("merchant-ca", format(second.serial_number, "x"))
    assert record.certificate == second
    published = x509.load_pem_x509_certificates((world.folder / "keys" / f"{KEY}.pem").read_bytes())
    assert published == [second, world.pki.merchant_ca.certificate, world.pki.brand.certificate]
    assert renewal(world).renew_due(world.clock()) == []


def test_the_time_stamp_authority_is_renewed_alike(world: CaWorld) -> None:
    first = found(world, "tsa", "timestamp-authority", "operations-ca", world.clock())
    world.clock.forward((first.not_valid_after_utc - world.clock()) * 2 / 3)
    assert renewal(world).renew_due(world.clock()) == ["tsa"]


def test_the_brands_responder_is_renewed_at_ceremonies(world: CaWorld) -> None:
    found(world, "ocsp-brand", "ocsp-brand", "brand", world.clock())
    world.clock.forward(390 * DAY)
    assert renewal(world).renew_due(world.clock()) == []


class Dying:
    """Signs, and dies before anybody learns of it."""

    def __init__(self, keys: SoftwareSigning) -> None:
        self._keys = keys
        self.signed: list[bytes] = []

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._keys, attribute)

    def sign_certificate(self, key: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        self.signed.append(self._keys.sign_certificate(key, tbs, basis))
        raise Problem(503, "gone", "the answer is lost")


def test_what_was_signed_and_lost_is_signed_again_byte_for_byte(world: CaWorld) -> None:
    found(world, KEY, KEY, "merchant-ca", world.clock())
    world.clock.forward(20 * DAY)
    dying = Dying(world.keys)
    assert renewal(world, dying).renew_due(world.clock()) == []
    assert renewal(world).renew_due(world.clock()) == [KEY]
    lost = x509.load_der_x509_certificate(dying.signed[0])
    assert in_use(world).tbs_certificate_bytes == lost.tbs_certificate_bytes


def test_what_was_lost_for_long_is_revoked_on_record(world: CaWorld) -> None:
    found(world, KEY, KEY, "merchant-ca", world.clock())
    world.clock.forward(20 * DAY)
    dying = Dying(world.keys)
    renewal(world, dying).renew_due(world.clock())
    world.clock.forward(timedelta(hours=1))
    assert renewal(world).renew_due(world.clock()) == [KEY]
    lost = format(x509.load_der_x509_certificate(dying.signed[0]).serial_number, "x")
    revoked = world.authority.store.status.revocation("merchant-ca", lost)
    assert revoked is not None
    assert revoked.state == "revoked"
    assert format(in_use(world).serial_number, "x") != lost
    with world.engine.begin() as db:
        assert db.execute(select(tables.renewals)).all() == []


class Failing:
    """Does not take a certificate, for as long as `reason` says why."""

    def __init__(self, keys: SoftwareSigning, reason: BaseException | None) -> None:
        self._keys = keys
        self.reason = reason

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._keys, attribute)

    def attach_certificate(self, key: str, chain: tuple[bytes, ...]) -> None:
        if self.reason is not None:
            raise self.reason
        self._keys.attach_certificate(key, chain)


def on_record(world: CaWorld) -> set[str]:
    """The certificates of the responder that are on record."""
    return {each.sha256 for each in world.authority.store.search(profile=KEY)}


@pytest.mark.parametrize(
    "reason", [Problem(503, "gone", "the token is away"), Problem(422, "refused", "no"), KeyboardInterrupt()]
)
def test_what_is_on_record_is_attached_however_late_and_no_other_is_made(world: CaWorld, reason: BaseException) -> None:
    found(world, KEY, KEY, "merchant-ca", world.clock())
    world.clock.forward(20 * DAY)
    keys = Failing(world.keys, reason)
    for _ in range(3):
        with contextlib.suppress(KeyboardInterrupt):
            assert renewal(world, keys).renew_due(world.clock()) == []
        world.clock.forward(timedelta(hours=1))
    assert len(on_record(world)) == 2
    keys.reason = None
    assert renewal(world, keys).renew_due(world.clock()) == [KEY]

    assert in_use(world).fingerprint(SHA256()).hex() in on_record(world)
    assert len(on_record(world)) == 2
    assert renewal(world, keys).renew_due(world.clock()) == []
    assert world.authority.store.status.revocations("merchant-ca") == []


def test_a_chain_that_was_not_published_is_published_later(world: CaWorld) -> None:
    found(world, KEY, KEY, "merchant-ca", world.clock())
    world.clock.forward(20 * DAY)
    renewal(world).renew_due(world.clock())
    path = world.folder / "keys" / f"{KEY}.pem"
    good = path.read_bytes()
    path.write_bytes(b"the one before")
    assert renewal(world).renew_due(world.clock()) == []
    assert path.read_bytes() == good


def test_an_older_database_starts_with_a_certificate_that_was_renewed_since(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    (world.folder / "keys").mkdir()
    found(world, KEY, KEY, "merchant-ca", world.clock())
    world.clock.forward(20 * DAY)
    renewal(world).renew_due(world.clock())
    renewed = in_use(world)
    with world.engine.begin() as db:  # as it was before the renewal
        db.execute(
            delete(tables.certificates).where(tables.certificates.c.sha256 == renewed.fingerprint(SHA256()).hex())
        )
        db.execute(delete(tables.serials).where(tables.serials.c.serial == format(renewed.serial_number, "x")))
    clock = world.clock
    world.close()
    world = CaWorld(tmp_path, office, clock=clock)
    assert world.authority.store.certificate("merchant-ca", format(renewed.serial_number, "x")).certificate == renewed
    world.close()


def test_a_clock_does_both_and_answers_last_as_long_as_they_may(world: CaWorld) -> None:
    found(world, KEY, KEY, "merchant-ca", world.clock())
    presigner = Presigner(OcspStore(world.engine), world.authority.hierarchy, world.keys, ocsp_policy())
    work = ocsp_work(renewal(world), presigner, world.clock)
    world.clock.forward(20 * DAY)
    assert work() == 2  # of the responder's two certificates
    assert work() == 0
    assert in_use(world).not_valid_before_utc > world.clock() - DAY
