"""Certificate status: what a ResponseData must say before it is signed, one wrong thing at a time; OpenSSL's word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from hsm_service.judging import SigningKey
from hsm_service.templates import built_in
from hsm_service.typed_ocsp import (
    MAX_RESPONSES,
    MAX_STATUS_AGE,
    MAX_STATUS_LIFE,
    assemble_ocsp,
    check_ocsp,
)
from pki.algorithms import SHA256_IDENTIFIER
from pki.der import any_value, encode, tlv
from pki.names import name
from pki.ocsp_structures import CertId, Extension, ResponseData, SingleResponse
from pki.roles import Role
from runtime.problems import Problem
from tests.support.judges import attime, run
from tests.support.pki_factory import DAY, NOW, PkiFactory, pem, role_extensions

PKI = PkiFactory()
USAGE = {"extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)}
NO_CHECK = {"no_check": (x509.OCSPNoCheck(), False)}
EXTENSIONS = {**role_extensions(Role.OCSP_RESPONDER), **USAGE, **NO_CHECK}
RESPONDER = PKI.issue(PKI.merchant_ca, name(cn="Status"), EXTENSIONS)
_public: Any = RESPONDER.key.public_key()
KEY = SigningKey("status", 1, built_in()["ocsp-responder"], _public, (RESPONDER.certificate, *RESPONDER.chain))
SHOP = PKI.merchant("M-1").certificate

SHA1 = tlv(0x30, bytes.fromhex("06052b0e03021a0500"))
SHA384 = tlv(0x30, bytes.fromhex("0609608648016503040202"))
GOOD, UNKNOWN = b"\x80\x00", b"\x82\x00"
NONCE = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.2")
MINUTE = timedelta(minutes=1)


def time(moment: datetime) -> asn1.GeneralizedTime:
    return asn1.GeneralizedTime(moment)


def revoked(at: datetime = NOW, reason: bytes = b"") -> bytes:
    return tlv(0xA1, encode(time(at)) + reason)


def key_bits(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def cert_id(
    issuer: x509.Certificate = PKI.merchant_ca.certificate, serial: int = SHOP.serial_number, **changes: Any
) -> CertId:
    """A CertID, with SHA-1 as every client sends it."""
    fields: dict[str, Any] = {
        "hash_algorithm": any_value(SHA1),
        "issuer_name_hash": hashlib.sha1(issuer.subject.public_bytes(), usedforsecurity=False).digest(),
        "issuer_key_hash": hashlib.sha1(key_bits(issuer), usedforsecurity=False).digest(),
        "serial_number": serial,
    }
    return CertId(**{**fields, **changes})


def single(status: bytes = GOOD, **changes: Any) -> SingleResponse:
    fields: dict[str, Any] = {
        "cert_id": cert_id(),
        "cert_status": any_value(status),
        "this_update": time(NOW),
        "next_update": time(NOW + DAY),
        "single_extensions": None,
    }
    return SingleResponse(**{**fields, **changes})


def extension(oid: str | x509.ObjectIdentifier, value: bytes, *, critical: bool = False) -> Extension:
    return Extension(id=x509.ObjectIdentifier(oid) if isinstance(oid, str) else oid, critical=critical, value=value)


def nonce(size: int, *, critical: bool = False) -> Extension:
    return extension(NONCE, encode(b"\x01" * size), critical=critical)


BY_KEY = tlv(0xA2, tlv(0x04, hashlib.sha1(key_bits(RESPONDER.certificate), usedforsecurity=False).digest()))


def data(*responses: SingleResponse, **changes: Any) -> bytes:
    """A ResponseData (DER), by default that one shop's certificate is good; each argument is one thing otherwise."""
    fields: dict[str, Any] = {
        "responder_id": any_value(BY_KEY),
        "produced_at": time(NOW),
        "responses": list(responses) or [single()],
        "response_extensions": None,
    }
    return encode(ResponseData(**{**fields, **changes}))


def refused(content: bytes, key: SigningKey = KEY, now: datetime = NOW) -> Problem:
    with pytest.raises(Problem) as caught:
        check_ocsp(content, key, now=now)
    assert caught.value.clause
    return caught.value


SHA256_ID: dict[str, Any] = {
    "hash_algorithm": any_value(SHA256_IDENTIFIER),
    "issuer_name_hash": hashlib.sha256(PKI.merchant_ca.certificate.subject.public_bytes()).digest(),
    "issuer_key_hash": hashlib.sha256(key_bits(PKI.merchant_ca.certificate)).digest(),
}

SOUND: dict[str, bytes] = {
    "good": data(),
    "unknown": data(single(UNKNOWN)),
    "revoked": data(single(revoked())),
    "revoked for a reason": data(single(revoked(reason=b"\xa0\x03\x0a\x01\x01"))),
    "CertID with SHA-256": data(single(cert_id=cert_id(**SHA256_ID))),
    "responder by name": data(responder_id=any_value(tlv(0xA1, RESPONDER.certificate.subject.public_bytes()))),
    "two certificates": data(single(), single(UNKNOWN, cert_id=cert_id(serial=5))),
    "nonce": data(response_extensions=[nonce(32)]),
    "longest nonce": data(response_extensions=[nonce(128)]),
    "archive cut-off": data(single(single_extensions=[extension("1.3.6.1.5.5.7.48.1.6", encode(time(NOW)))])),
    "day-old status": data(single(this_update=time(NOW - MAX_STATUS_AGE))),
    "status for a week": data(single(next_update=time(NOW + MAX_STATUS_LIFE))),
}


@pytest.mark.parametrize("kind", SOUND)
def test_the_status_of_its_own_authoritys_certificates_may_be_signed(kind: str) -> None:
    order = check_ocsp(SOUND[kind], KEY, now=NOW)
    assert order.tbs == SOUND[kind]
    assert order.responses == (2 if kind == "two certificates" else 1)


TWINS: dict[str, tuple[Callable[[], bytes], str]] = {
    "trailing byte": (lambda: data() + b"\x00", "malformed"),
    "a digest": (lambda: b"\x55" * 32, "malformed"),
    "another responder's key": (
        lambda: data(responder_id=any_value(tlv(0xA2, tlv(4, b"\x01" * 20)))),
        "foreign-responder",
    ),
    "another responder's name": (
        lambda: data(responder_id=any_value(tlv(0xA1, name(cn="X").public_bytes()))),
        "foreign-responder",
    ),
    "no certificate": (lambda: data(responses=[]), "bad-count"),
    "too many": (lambda: data(*[single()] * (MAX_RESPONSES + 1)), "bad-count"),
    "another authority": (lambda: data(single(cert_id=cert_id(PKI.gateway_ca.certificate))), "foreign-authority"),
    "another authority in one of two": (
        lambda: data(single(), single(cert_id=cert_id(PKI.gateway_ca.certificate))),
        "foreign-authority",
    ),
    "another authority's key": (
        lambda: data(single(cert_id=cert_id(issuer_key_hash=b"\x01" * 20))),
        "foreign-authority",
    ),
    "another authority's name": (
        lambda: data(single(cert_id=cert_id(issuer_name_hash=b"\x01" * 20))),
        "foreign-authority",
    ),
    "CertID with SHA-384": (
        lambda: data(single(cert_id=cert_id(hash_algorithm=any_value(SHA384)))),
        "weak-algorithm",
    ),
    "serial zero": (lambda: data(single(cert_id=cert_id(serial=0))), "bad-serial"),
    "a status of its own": (lambda: data(single(b"\x83\x00")), "unknown-status"),
    "good with a content": (lambda: data(single(b"\x80\x01\x00")), "unknown-status"),
    "revoked in the future": (lambda: data(single(revoked(NOW + 6 * MINUTE))), "bad-revocation-date"),
    "removed from the list": (lambda: data(single(revoked(reason=b"\xa0\x03\x0a\x01\x08"))), "unknown-reason"),
    "a reason that is an INTEGER": (lambda: data(single(revoked(reason=b"\xa0\x03\x02\x01\x01"))), "unknown-reason"),
    "revoked without time": (lambda: data(single(b"\xa1\x00")), "malformed"),
    "produced an hour ago": (lambda: data(produced_at=time(NOW - 60 * MINUTE)), "bad-produced-at"),
    "produced in the future": (lambda: data(produced_at=time(NOW + 6 * MINUTE)), "bad-produced-at"),
    "older than a day": (lambda: data(single(this_update=time(NOW - MAX_STATUS_AGE - MINUTE))), "bad-this-update"),
    "from the future": (lambda: data(single(this_update=time(NOW + 6 * MINUTE))), "bad-this-update"),
    "without end": (lambda: data(single(next_update=None)), "bad-next-update"),
    "ended": (lambda: data(single(next_update=time(NOW))), "bad-next-update"),
    "longer than a week": (
        lambda: data(single(next_update=time(NOW + MAX_STATUS_LIFE + MINUTE))),
        "bad-next-update",
    ),
    "empty nonce": (lambda: data(response_extensions=[nonce(0)]), "bad-nonce"),
    "nonce of 129 bytes": (lambda: data(response_extensions=[nonce(129)]), "bad-nonce"),
    "nonce that is no OCTET STRING": (
        lambda: data(response_extensions=[extension(NONCE, b"\x02\x01\x01")]),
        "malformed",
    ),
    "critical nonce": (lambda: data(response_extensions=[nonce(16, critical=True)]), "unknown-critical-extension"),
    "two nonces": (lambda: data(response_extensions=[nonce(16), nonce(16)]), "unknown-extension"),
    "unknown extension": (lambda: data(response_extensions=[extension("1.2.3", b"\x05\x00")]), "unknown-extension"),
    "unknown critical extension": (
        lambda: data(single(single_extensions=[extension("1.2.3", b"\x05\x00", critical=True)])),
        "unknown-extension",
    ),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_status_with_one_wrong_thing_is_not_signed(twin: str) -> None:
    make, slug = TWINS[twin]
    problem = refused(make())
    assert (problem.status, problem.type) == (422, slug)


def test_a_lapsed_responder_signs_nothing() -> None:
    late = RESPONDER.certificate.not_valid_after_utc + DAY
    assert refused(data(), now=late).type == "certificate-not-valid"


def test_a_responder_whose_authority_is_not_known_signs_nothing() -> None:
    assert refused(data(), replace(KEY, chain=KEY.chain[:1])).type == "authority-unknown"


@given(st.binary(max_size=200))
def test_bytes_that_are_nothing_are_refused_and_break_nothing(content: bytes) -> None:
    assert refused(content).status == 422


def response(tbs: bytes) -> bytes:
    """The whole OCSPResponse (RFC 6960 4.2.1), signed outside of any token."""
    order = check_ocsp(tbs, KEY, now=NOW)
    key = RESPONDER.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    basic = assemble_ocsp(order, key.sign(order.tbs, ec.ECDSA(hashes.SHA256())), KEY)
    kind = encode(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.1"))
    return tlv(0x30, b"\x0a\x01\x00" + tlv(0xA0, tlv(0x30, kind + encode(basic))))


@pytest.mark.parametrize(("status", "said"), [(GOOD, b"good"), (revoked(), b"revoked"), (UNKNOWN, b"unknown")])
def test_openssl_accepts_the_response(status: bytes, said: bytes, tmp_path: Path) -> None:
    (tmp_path / "response.der").write_bytes(response(data(single(status))))
    (tmp_path / "root.pem").write_bytes(pem(PKI.root.certificate))
    (tmp_path / "cas.pem").write_bytes(pem(PKI.brand.certificate, PKI.merchant_ca.certificate))
    (tmp_path / "issuer.pem").write_bytes(pem(PKI.merchant_ca.certificate))
    (tmp_path / "shop.pem").write_bytes(pem(SHOP))

    done = run(
        "openssl", "ocsp", "-respin", tmp_path / "response.der", "-issuer", tmp_path / "issuer.pem",
        "-cert", tmp_path / "shop.pem", "-CAfile", tmp_path / "root.pem", "-verify_other", tmp_path / "cas.pem",
        *attime(NOW), "-validity_period", str(10**9),
    )  # fmt: skip

    assert done.returncode == 0
    assert b"Response verify OK" in done.stderr
    assert b"shop.pem: " + said in done.stdout
