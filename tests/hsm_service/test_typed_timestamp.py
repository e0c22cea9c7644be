"""Time-stamps: what a TSTInfo must say before it is signed, one wrong thing at a time, and what OpenSSL says of it."""

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
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from hsm_service.judging import SigningKey
from hsm_service.ledger import SERIAL_BITS
from hsm_service.templates import built_in
from hsm_service.typed_timestamp import (
    MAX_DRIFT,
    TimestampOrder,
    check_timestamp,
)
from pki import oids
from pki.algorithms import SHA256_IDENTIFIER
from pki.der import any_value, encode, tlv
from pki.names import name
from pki.roles import Role
from pki.timestamp_structures import IMPRINT_IDENTIFIER, Accuracy, MessageImprint, TstInfo
from runtime.problems import Problem
from tests.support.judges import openssl
from tests.support.pki_factory import DAY, NOW, PkiFactory, pem, role_extensions

PKI = PkiFactory()
USAGE = {"extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)}
TSA = PKI.issue(PKI.operations_ca, name(cn="Time"), {**role_extensions(Role.TIMESTAMP_AUTHORITY), **USAGE})
_public: Any = TSA.key.public_key()
KEY = SigningKey("tsa", 1, built_in()["timestamp-authority"], _public, (TSA.certificate, *TSA.chain))
DATA = b"a message"
SHA3_256 = tlv(0x30, bytes.fromhex("0609608648016503040208"))
SHA1 = tlv(0x30, bytes.fromhex("06052b0e03021a0500"))


def serial(at: datetime = NOW, low: int = 7) -> int:
    return int(at.timestamp()) << SERIAL_BITS | low


def imprint(digest: bytes = hashlib.sha256(DATA).digest(), algorithm: bytes = SHA256_IDENTIFIER) -> MessageImprint:
    return MessageImprint(hash_algorithm=any_value(algorithm), hashed_message=digest)


def accuracy(seconds: int | None = 1, millis: int | None = None, micros: int | None = None) -> Accuracy:
    return Accuracy(seconds=seconds, millis=millis, micros=micros)


def info(**changes: Any) -> bytes:
    """A TSTInfo (DER) for `DATA` now; each argument is one thing to have otherwise."""
    at = changes.pop("at", NOW)
    fields: dict[str, Any] = {
        "version": 1,
        "policy": oids.POLICY_TIMESTAMP,
        "message_imprint": imprint(),
        "serial_number": serial(at),
        "gen_time": asn1.GeneralizedTime(at.replace(microsecond=0)),
        "accuracy": accuracy(),
        "ordering": False,
        "nonce": 99,
        "tsa": any_value(tlv(0xA4, TSA.certificate.subject.public_bytes())),
    }
    return encode(TstInfo(**{**fields, **changes}))


def refused(content: bytes, key: SigningKey = KEY, now: datetime = NOW) -> Problem:
    with pytest.raises(Problem) as caught:
        check_timestamp(content, key, now=now)
    assert caught.value.clause
    return caught.value


def test_a_time_stamp_of_now_may_be_signed() -> None:
    order = check_timestamp(info(), KEY, now=NOW)
    assert (order.content, order.serial) == (info(), serial())


@pytest.mark.parametrize("changes", [{"accuracy": None}, {"nonce": None}, {"ordering": True}], ids=str)
def test_what_is_optional_may_be_left_out(changes: dict[str, Any]) -> None:
    assert check_timestamp(info(**changes), KEY, now=NOW).serial == serial()


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("parameters", [b"", b"\x05\x00"], ids=["bare", "null"])
def test_an_imprint_is_of_the_sha_2_family_in_both_spellings(algorithm: str, parameters: bytes) -> None:
    spelling = tlv(0x30, IMPRINT_IDENTIFIER[algorithm][2:] + parameters)
    stamped = info(message_imprint=imprint(hashlib.new(algorithm, DATA).digest(), spelling))
    assert check_timestamp(stamped, KEY, now=NOW).content == stamped


TWINS: dict[str, tuple[Callable[[], bytes], str]] = {
    "trailing byte": (lambda: info() + b"\x00", "malformed"),
    "a digest": (lambda: b"\x55" * 32, "malformed"),
    "extensions": (lambda: tlv(0x30, bytes(any_value(info()).data) + b"\xa1\x00"), "malformed"),
    "version 2": (lambda: info(version=2), "bad-version"),
    "another policy": (lambda: info(policy=oids.POLICY_SERVICE), "unknown-policy"),
    "SHA-1": (lambda: info(message_imprint=imprint(b"\x01" * 20, SHA1)), "bad-imprint"),
    "SHA3-256": (lambda: info(message_imprint=imprint(b"\x01" * 32, SHA3_256)), "bad-imprint"),
    "SHA-384 of 32 bytes": (
        lambda: info(message_imprint=imprint(b"\x01" * 32, IMPRINT_IDENTIFIER["sha384"])),
        "bad-imprint",
    ),
    "SHA-256 of 31 bytes": (lambda: info(message_imprint=imprint(b"\x01" * 31)), "bad-imprint"),
    "SHA-256 of 33 bytes": (lambda: info(message_imprint=imprint(b"\x01" * 33)), "bad-imprint"),
    "too early": (lambda: info(at=NOW - MAX_DRIFT - timedelta(seconds=1)), "bad-gen-time"),
    "too late": (lambda: info(at=NOW + MAX_DRIFT + timedelta(seconds=1)), "bad-gen-time"),
    "serial of another second": (lambda: info(serial_number=serial(NOW + timedelta(seconds=1))), "bad-serial"),
    "small serial": (lambda: info(serial_number=7), "bad-serial"),
    "negative serial": (lambda: info(serial_number=-serial()), "bad-serial"),
    "accuracy of an hour": (lambda: info(accuracy=accuracy(3600)), "bad-accuracy"),
    "accuracy below zero": (lambda: info(accuracy=accuracy(-1)), "bad-accuracy"),
    "no milliseconds": (lambda: info(accuracy=accuracy(1, 0)), "bad-accuracy"),
    "a thousand microseconds": (lambda: info(accuracy=accuracy(1, 1, 1000)), "bad-accuracy"),
    "negative nonce": (lambda: info(nonce=-1), "bad-nonce"),
    "nonce of 161 bits": (lambda: info(nonce=1 << 160), "bad-nonce"),
    "another authority": (lambda: info(tsa=any_value(tlv(0xA4, name(cn="X").public_bytes()))), "foreign-tsa"),
    "an authority that is a URI": (lambda: info(tsa=any_value(tlv(0x86, b"urn:x"))), "foreign-tsa"),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_time_stamp_with_one_wrong_thing_is_not_signed(twin: str) -> None:
    make, slug = TWINS[twin]
    problem = refused(make())
    assert (problem.status, problem.type) == (422, slug)


def test_a_lapsed_authority_signs_nothing() -> None:
    late = TSA.certificate.not_valid_after_utc + DAY
    assert refused(info(at=late), now=late).type == "certificate-not-valid"
    with pytest.raises(Problem, match="attach one first"):
        check_timestamp(info(), replace(KEY, chain=()), now=NOW)


@given(st.binary(max_size=200))
def test_bytes_that_are_nothing_are_refused_and_break_nothing(data: bytes) -> None:
    assert refused(data).status == 422


def _token(order: TimestampOrder) -> bytes:
    key = TSA.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(order.signed_attributes, ec.ECDSA(hashes.SHA256()))
    return KEY.writer.assemble(oids.CT_TST_INFO, order.content, order.signed_attributes, signature)


def test_openssl_accepts_the_time_stamp_and_not_one_of_other_data(tmp_path: Path) -> None:
    token = _token(check_timestamp(info(), KEY, now=NOW))
    granted = tlv(0x30, encode(0))
    (tmp_path / "response.tsr").write_bytes(tlv(0x30, granted + token))
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "other").write_bytes(DATA + b".")
    (tmp_path / "root.pem").write_bytes(pem(PKI.root.certificate))
    (tmp_path / "cas.pem").write_bytes(pem(*TSA.chain))
    judge = (
        "ts", "-verify", "-in", tmp_path / "response.tsr", "-CAfile", tmp_path / "root.pem",
        "-untrusted", tmp_path / "cas.pem", "-attime", str(int(NOW.timestamp())),
    )  # fmt: skip

    openssl(*judge, "-data", tmp_path / "data")
    with pytest.raises(AssertionError, match="mismatch"):
        openssl(*judge, "-data", tmp_path / "other")
