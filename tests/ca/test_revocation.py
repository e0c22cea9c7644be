"""Revocation: ordered by an officer's signature, on the CRL before the answer, never forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import NotApprovedError, RevocationRefusedError, StoreError, UnknownCertificateError
from ca.store import CertificateRecord
from cps.decision import Revocation, build_revocation
from pki.errors import PathError
from pki.oids import CT_REVOCATION
from pki.path import validate_path
from pki.roles import Role
from runtime.problems import Problem
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import MERCHANT, Office
from tests.support.judges import attime, openssl_accepts
from tests.support.one_intent import known_keys
from tests.support.pki_factory import pem
from tests.support.software_signing import SoftwareSigning


def merchant(world: CaWorld) -> CertificateRecord:
    return world.authority.issuance.issue(world.approved_merchant())["signing"]


def published(world: CaWorld, issuer: str = "merchant-ca") -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl((world.folder / "crls" / f"{issuer}.crl").read_bytes())


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_revoked_certificate_is_on_the_crl_when_the_answer_comes(world: CaWorld, office: Office) -> None:
    record = merchant(world)
    before = number(published(world))

    revoked = world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))

    assert revoked.crl is not None
    assert revoked.crl.number == number(published(world)) > before
    entry = published(world).get_revoked_certificate_by_serial_number(record.certificate.serial_number)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert (revoked.record.reason, revoked.record.ordered_by) == ("keyCompromise", "officer-1")


def test_every_judge_refuses_it_from_then_on(world: CaWorld, office: Office, tmp_path: Path) -> None:
    record = merchant(world)

    def judged() -> bool:
        crls = [x509.load_der_x509_crl(path.read_bytes()) for path in (world.folder / "crls").glob("*.crl")]
        (tmp_path / "crls.pem").write_bytes(pem(*crls))
        (tmp_path / "cas.pem").write_bytes(pem(*world.authority.hierarchy.intermediates))
        (tmp_path / "leaf.pem").write_bytes(pem(record.certificate))
        return openssl_accepts(
            "verify", "-CAfile", world.folder / "root.pem", "-untrusted", tmp_path / "cas.pem", "-crl_check_all",
            "-CRLfile", tmp_path / "crls.pem", *attime(world.clock.now), tmp_path / "leaf.pem",
        )  # fmt: skip

    assert judged()
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))

    assert not judged()
    with pytest.raises(PathError, match="revoked"):
        validate_path(
            record.certificate, trust=world.authority.publisher.trust(), now=world.clock.now, roles=[Role.MERCHANT]
        )


def test_the_same_order_again_gives_the_same_answer_and_another_order_is_refused(
    world: CaWorld, office: Office
) -> None:
    record = merchant(world)
    order = office.revocation(record.certificate, office.vetter)
    first = world.authority.revocation.apply(order)

    again = world.authority.revocation.apply(order)

    assert again.record.revoked_at == first.record.revoked_at
    assert again.crl == first.crl
    with pytest.raises(RevocationRefusedError, match="was revoked on"):
        world.authority.revocation.apply(office.revocation(record.certificate, office.vetter_2, reason="superseded"))


def test_an_officer_without_the_role_is_refused(world: CaWorld, office: Office) -> None:
    record = merchant(world)

    with pytest.raises(RevocationRefusedError, match="REV-ROLE"):
        world.authority.revocation.apply(office.revocation(record.certificate, office.approver))
    assert world.authority.store.status.revocations("merchant-ca") == []


def test_an_order_that_is_no_signed_statement_is_refused(world: CaWorld) -> None:
    with pytest.raises(RevocationRefusedError, match="REV-STATEMENT"):
        world.authority.revocation.apply(b"revoke it, please")


def test_a_serial_that_was_never_issued_cannot_be_revoked(world: CaWorld, office: Office) -> None:
    stranger = office.pki.merchant("M-7").certificate  # by our authority's key, but not in our records

    with pytest.raises(UnknownCertificateError):
        world.authority.revocation.apply(office.revocation(stranger, office.vetter))


def test_an_authority_of_others_is_unknown(world: CaWorld, office: Office) -> None:
    order = build_revocation(Revocation(b"\x01" * 20, 1 << 100, "superseded", office.now))

    with pytest.raises(UnknownCertificateError, match="key identifier"):
        world.authority.revocation.apply(office.vetter.sign(CT_REVOCATION, order))


def test_what_the_root_certified_is_revoked_at_a_ceremony(world: CaWorld, office: Office) -> None:
    with pytest.raises(RevocationRefusedError, match="ceremony"):
        world.authority.revocation.apply(office.revocation(office.pki.brand.certificate, office.vetter))
    with pytest.raises(StoreError, match="ceremony"):
        world.authority.publisher.publish("root")


def test_an_issuing_authority_can_be_revoked_by_the_brand(world: CaWorld, office: Office) -> None:
    authority = office.pki.gateway_ca.certificate

    world.authority.revocation.apply(office.revocation(authority, office.security, reason="cessationOfOperation"))

    assert published(world, "brand").get_revoked_certificate_by_serial_number(authority.serial_number) is not None


def test_a_compromised_key_is_never_certified_again(world: CaWorld, office: Office) -> None:
    record = merchant(world)
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter, reason="keyCompromise"))
    other = MERCHANT.model_copy(update={"merchant_id": "M-2"})

    with pytest.raises(NotApprovedError, match="KEY-DENYLISTED"):
        world.authority.issuance.issue(world.approved_merchant(application_id="case-2", subject=other))


def test_a_superseded_key_is_not_denylisted(world: CaWorld, office: Office) -> None:
    record = merchant(world)
    world.authority.revocation.apply(office.revocation(record.certificate, office.vetter, reason="superseded"))

    known = known_keys(world.authority.store, [bytes.fromhex(record.spki_sha256)], application_id="case-1")
    assert known.denylisted == frozenset()


def test_a_revoked_officer_orders_nothing_more(tmp_path: Path, fresh_office: Office) -> None:
    world = CaWorld(tmp_path, fresh_office)
    record = merchant(world)
    fresh_office.pki.revoke(fresh_office.vetter)
    crl = fresh_office.pki.operations_ca.crl(fresh_office.now, number=int(fresh_office.now.timestamp()) + 1)
    (world.folder / "crls" / "operations-ca.crl").write_bytes(crl.public_bytes(Encoding.DER))
    world.authority.publisher.load()

    with pytest.raises(RevocationRefusedError, match="DEC-CREDENTIAL"):
        world.authority.revocation.apply(fresh_office.revocation(record.certificate, fresh_office.vetter))
    world.close()


class Away:
    """A token that signs no CRL while `away`."""

    def __init__(self, keys: SoftwareSigning) -> None:
        self.keys = keys
        self.away = False

    def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        if self.away:
            raise Problem(503, "token-unavailable", "no token")
        return self.keys.sign_crl(name, tbs, version)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.keys, name)


def test_a_revocation_while_the_token_is_away_is_kept_and_published_by_the_clock(
    tmp_path: Path, office: Office
) -> None:
    tokens: list[Away] = []

    def put(keys: SoftwareSigning) -> Any:
        tokens.append(Away(keys))
        return tokens[0]

    world = CaWorld(tmp_path, office, signer=put)
    record = merchant(world)
    tokens[0].away = True

    revoked = world.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
    assert revoked.crl is None
    world.authority.maintain()  # still away: reported, not raised
    tokens[0].away = False
    world.authority.maintain()

    assert published(world).get_revoked_certificate_by_serial_number(record.certificate.serial_number) is not None
    kept = world.authority.store.status.revocation("merchant-ca", record.serial)
    assert kept is not None
    assert kept.published
    world.close()


def test_a_revocation_survives_a_kill_before_its_crl(tmp_path: Path, office: Office) -> None:
    tokens: list[Away] = []

    def put(keys: SoftwareSigning) -> Any:
        tokens.append(Away(keys))
        return tokens[0]

    dying = CaWorld(tmp_path, office, signer=put)
    record = merchant(dying)
    tokens[0].away = True
    dying.authority.revocation.apply(office.revocation(record.certificate, office.vetter))
    dying.close()

    world = CaWorld(tmp_path, office)

    assert published(world).get_revoked_certificate_by_serial_number(record.certificate.serial_number) is not None
    world.close()
