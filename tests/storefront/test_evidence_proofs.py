"""A bundle with a time-stamp and status answers: OpenSSL judges them too, years later; what is missing is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from pki import oids
from pki.der import any_value, encode, tlv
from pki.names import name
from pki.roles import Role
from pki.timestamp_structures import TstInfo, imprint_of
from storefront.errors import EvidenceError
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import Records
from tests.kwbp.world import Purchase, World
from tests.storefront.test_evidence import judge, records_of, reseal
from tests.support.pki_factory import NOW, Authority, Credential, PkiFactory, role_extensions

STAMPED = NOW + timedelta(seconds=3)


@dataclass
class Stamps:
    """Responders and a time-stamp authority of a hierarchy, with software keys."""

    pki: PkiFactory

    def __post_init__(self) -> None:
        extensions = role_extensions(Role.TIMESTAMP_AUTHORITY)
        self.tsa = self.pki.issue(self.pki.operations_ca, name(cn="Time"), extensions)

    def token(self, data: bytes, at: datetime = STAMPED) -> bytes:
        """A TimeStampToken over `data`."""
        info = TstInfo(
            version=1,
            policy=oids.POLICY_TIMESTAMP,
            message_imprint=imprint_of(data),
            serial_number=77,
            gen_time=asn1.GeneralizedTime(at),
            accuracy=None,
            ordering=False,
            nonce=1,
            tsa=any_value(tlv(0xA4, self.tsa.certificate.subject.public_bytes())),
        )
        return self.tsa.sign(oids.CT_TST_INFO, encode(info), signing_time=at)

    def status(
        self,
        certificate: x509.Certificate,
        *,
        revoked_at: datetime | None = None,
        this_update: datetime = NOW,
        responder: Credential | None = None,
    ) -> bytes:
        """An OCSPResponse about `certificate`."""
        issuer = self.issuer(certificate)
        if responder is None:
            nocheck = (x509.OCSPNoCheck(), False)
            extensions = {**role_extensions(Role.OCSP_RESPONDER), "nocheck": nocheck}
            responder = self.pki.issue(issuer, name(cn="Status"), extensions)
        return (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=certificate,
                issuer=issuer.certificate,
                algorithm=hashes.SHA1(),  # noqa: S303  # names an issuer (RFC 6960 4.1.1)
                cert_status=ocsp.OCSPCertStatus.GOOD if revoked_at is None else ocsp.OCSPCertStatus.REVOKED,
                this_update=this_update,
                next_update=this_update + timedelta(hours=12),
                revocation_time=revoked_at,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
            .certificates([responder.certificate])
            .sign(responder.key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )

    def issuer(self, certificate: x509.Certificate) -> Authority:
        return next(each for each in self.pki.authorities if each.certificate.subject == certificate.issuer)


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def purchase(world: World) -> Purchase:
    return world.purchase()


@pytest.fixture(scope="module")
def stamps(world: World) -> Stamps:
    return Stamps(world.pki)


@pytest.fixture(scope="module")
def certificates(world: World) -> list[x509.Certificate]:
    """All that have a responder: four signers and the authorities below the brand."""
    leaves = (world.buyer, world.shop, world.gateway_signing, world.gateway_encryption)
    above = (world.pki.cardholder_ca, world.pki.merchant_ca, world.pki.gateway_ca, world.pki.operations_ca)
    return [each.certificate for each in (*leaves, *above)]


@pytest.fixture(scope="module")
def records(world: World, purchase: Purchase, stamps: Stamps, certificates: list[x509.Certificate]) -> Records:
    bare = records_of(world, purchase)
    answers = tuple(stamps.status(each) for each in certificates)
    # The list in force when the stamp was made is among those that were kept.
    return replace(bare, time_stamp=stamps.token(bare.auth_res), ocsp=answers)


@pytest.fixture(scope="module")
def honest(world: World, records: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("proven") / "bundle"
    write_bundle(records, world.pki.root.certificate, out)
    return out


@pytest.fixture
def bundle(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "bundle"))


def test_everything_holds_after_the_certificates_have_expired(
    honest: Path, certificates: list[x509.Certificate]
) -> None:
    assert min(each.not_valid_after_utc for each in certificates) < datetime.now(NOW.tzinfo)
    result = judge(honest)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAILED" not in result.stdout
    assert "missing" not in result.stdout
    assert "the gateway's answer existed on Mar 21 12:00:03 2026 GMT" in result.stdout
    assert result.stdout.count("(OCSP)") == 8


def test_the_verdict_says_on_what_time_and_status_it_rests(honest: Path) -> None:
    verdict = json.loads((honest / "verdict.json").read_text())
    assert verdict["time"] == {
        "rests_on": "an RFC 3161 time-stamp over auth-res.p7s",
        "at": STAMPED.isoformat(),
        "serial": "4d",
    }
    assert verdict["status"]["merchant"]["ocsp"] == "good"
    assert verdict["gaps"] == []


def test_what_is_missing_is_named_and_the_rest_is_judged(world: World, records: Records, tmp_path: Path) -> None:
    bare = replace(records, time_stamp=None, ocsp=records.ocsp[1:])
    verdict = write_bundle(bare, world.pki.root.certificate, tmp_path / "out")
    assert verdict["time"]["rests_on"] == "the gateway's signed date"
    assert len(verdict["gaps"]) == 2
    result = judge(tmp_path / "out")
    assert result.returncode == 0, result.stdout
    assert "missing  no time-stamp" in result.stdout
    assert "missing  no OCSP answer about buyer" in result.stdout


def test_an_answer_of_a_later_revocation_does_not_undo_the_purchase(
    world: World, records: Records, stamps: Stamps, tmp_path: Path
) -> None:
    later = NOW + timedelta(hours=1)
    about = stamps.status(world.shop.certificate, revoked_at=later, this_update=later)
    write_bundle(replace(records, ocsp=(about,)), world.pki.root.certificate, tmp_path / "out")
    assert judge(tmp_path / "out").returncode == 0


def other_hierarchy(records: Records) -> bytes:
    return Stamps(PkiFactory(brand="Forger")).token(records.auth_res)


TWINS: dict[str, tuple[Callable[[World, Stamps, Records], Records], str]] = {
    "a time-stamp over other bytes": (
        lambda _world, stamps, records: replace(records, time_stamp=stamps.token(records.auth_res + b".")),
        "FAILED   the gateway's answer existed",
    ),
    "a time-stamp of another hierarchy": (
        lambda _world, _site, records: replace(records, time_stamp=other_hierarchy(records)),
        "FAILED   the gateway's answer existed",
    ),
    "a time-stamp from before the purchase": (
        lambda _world, stamps, records: replace(
            records, time_stamp=stamps.token(records.auth_res, NOW - timedelta(minutes=5))
        ),
        "FAILED   it says that it is not older",
    ),
    "a merchant revoked before the purchase": (
        lambda world, stamps, records: replace(
            records, ocsp=(stamps.status(world.shop.certificate, revoked_at=NOW - timedelta(hours=1)),)
        ),
        "FAILED   merchant was not revoked",
    ),
    "an authority revoked before the purchase": (
        lambda world, stamps, records: replace(
            records,
            ocsp=(stamps.status(world.pki.merchant_ca.certificate, revoked_at=NOW - timedelta(hours=1)),),
        ),
        "FAILED   merchant-ca",
    ),
    "an answer that had lapsed": (
        lambda world, stamps, records: replace(
            records, ocsp=(stamps.status(world.shop.certificate, this_update=NOW - timedelta(hours=13)),)
        ),
        "FAILED   merchant was not revoked",
    ),
    "an answer by somebody who is no responder": (
        lambda world, stamps, records: replace(
            records, ocsp=(stamps.status(world.shop.certificate, responder=world.pki.merchant("M-7")),)
        ),
        "FAILED   merchant was not revoked",
    ),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_bundle_with_one_wrong_proof_does_not_hold(
    world: World, stamps: Stamps, records: Records, tmp_path: Path, twin: str
) -> None:
    change, statement = TWINS[twin]
    write_bundle(change(world, stamps, records), world.pki.root.certificate, tmp_path / "out")
    result = judge(tmp_path / "out")
    assert result.returncode == 1
    assert statement in result.stdout


def test_an_authority_of_time_that_was_revoked_is_found(world: World, purchase: Purchase, tmp_path: Path) -> None:
    stamps = Stamps(world.pki)
    bare = records_of(world, purchase)
    world.pki.revoke(stamps.tsa)
    lists = tuple(crl.public_bytes(Encoding.DER) for crl in world.pki.crls())
    proven = replace(bare, time_stamp=stamps.token(bare.auth_res), crls=lists)
    write_bundle(proven, world.pki.root.certificate, tmp_path / "out")
    assert "certificate revoked" in judge(tmp_path / "out").stdout


@pytest.mark.parametrize("name", ["timestamp.tsr", "ocsp/merchant.der"])
def test_one_changed_byte_is_found_even_with_new_digests(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1 if name == "timestamp.tsr" else len(content) // 2] ^= 1  # the one ends with a signature
    (bundle / name).write_bytes(content)
    reseal(bundle)
    assert judge(bundle).returncode == 1


def test_an_answer_about_another_certificate_is_found(bundle: Path) -> None:
    shutil.copyfile(bundle / "ocsp" / "gateway.der", bundle / "ocsp" / "merchant.der")
    reseal(bundle)
    assert "FAILED   merchant was not revoked" in judge(bundle).stdout


@pytest.mark.parametrize("wrong", [{"time_stamp": b"\x30\x00"}, {"ocsp": (b"\x30\x03\x0a\x01\x06",)}, {"ocsp": (b"",)}])
def test_proofs_that_are_none_are_refused(
    world: World, records: Records, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(EvidenceError, match="time-stamp or a status answer"):
        write_bundle(replace(records, **wrong), world.pki.root.certificate, tmp_path / "out")
