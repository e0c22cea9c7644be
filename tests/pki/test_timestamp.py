"""Time-stamps as relying parties judge them: one that holds, and twins with one thing wrong each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from pki import oids
from pki.der import any_value, decode, encode, tlv
from pki.errors import DerError, TimestampError
from pki.names import name
from pki.path import Trust
from pki.roles import Role
from pki.timestamp import (
    build_query,
    grant,
    read_response,
    reject,
    verify_token,
    with_certificates,
    without_certificates,
)
from pki.timestamp_structures import (
    Accuracy,
    Failure,
    Granted,
    MessageImprint,
    NotGranted,
    PkiStatusInfo,
    Status,
    TimeStampReq,
    TstInfo,
    imprint_of,
)
from tests.support.judges import attime, openssl, openssl_accepts
from tests.support.pki_factory import DAY, NOW, Credential, PkiFactory, pem, role_extensions

PKI = PkiFactory()
DATA = b"the gateway's answer"
NONCE = 0x0102030405060708
SHA1 = tlv(0x30, bytes.fromhex("06052b0e03021a0500"))


def authority(*usages: x509.ObjectIdentifier, critical: bool = True, cn: str = "Time", **changes: Any) -> Credential:
    """A certificate of a time-stamp authority; what is given is one thing to have otherwise."""
    usage = x509.ExtendedKeyUsage(usages or [ExtendedKeyUsageOID.TIME_STAMPING])
    extensions = {**role_extensions(Role.TIMESTAMP_AUTHORITY), "extended_key_usage": (usage, critical)}
    return PKI.issue(changes.pop("issuer", PKI.operations_ca), name(cn=cn), extensions, **changes)


TSA = authority()


def token(signer: Credential = TSA, *, signing_time: datetime | None = None, **changes: Any) -> bytes:
    """A TimeStampToken over DATA; each argument is one thing to have otherwise."""
    at = changes.pop("at", NOW)
    fields: dict[str, Any] = {
        "version": 1,
        "policy": oids.POLICY_TIMESTAMP,
        "message_imprint": imprint_of(DATA),
        "serial_number": 7,
        "gen_time": asn1.GeneralizedTime(at),
        "accuracy": Accuracy(seconds=1, millis=2, micros=3),
        "ordering": False,
        "nonce": NONCE,
        "tsa": any_value(tlv(0xA4, signer.certificate.subject.public_bytes())),
    }
    return signer.sign(oids.CT_TST_INFO, encode(TstInfo(**{**fields, **changes})), signing_time=signing_time or at)


def refused(made: bytes, *, trust: Trust | None = None, **arguments: Any) -> TimestampError:
    with pytest.raises(TimestampError) as caught:
        verify_token(made, DATA, trust=trust or PKI.trust(), **{"nonce": NONCE, **arguments})
    assert caught.value.clause
    return caught.value


def test_a_token_says_when_the_bytes_existed() -> None:
    made = token()
    stamp = verify_token(made, DATA, trust=PKI.trust(), nonce=NONCE)
    assert (stamp.gen_time, stamp.serial, stamp.algorithm, stamp.der) == (NOW, 7, "sha256", made)
    assert stamp.accuracy == timedelta(seconds=1, milliseconds=2, microseconds=3)
    assert stamp.path[0] == TSA.certificate
    assert stamp.path[-1] == PKI.root.certificate


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_the_imprint_may_be_longer(algorithm: str) -> None:
    stamp = verify_token(token(message_imprint=imprint_of(DATA, algorithm)), DATA, trust=PKI.trust(), nonce=NONCE)
    assert stamp.algorithm == algorithm


def test_what_is_optional_may_be_left_out() -> None:
    stamp = verify_token(token(accuracy=None, nonce=None), DATA, trust=PKI.trust())
    assert stamp.accuracy is None
    whole = Accuracy(seconds=None, millis=None, micros=None)
    assert verify_token(token(accuracy=whole), DATA, trust=PKI.trust(), nonce=NONCE).accuracy == timedelta()


def test_openssl_believes_what_we_believe(tmp_path: Path) -> None:
    (tmp_path / "tsr").write_bytes(grant(token()))
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "query").write_bytes(build_query(DATA, nonce=NONCE, policy=oids.POLICY_TIMESTAMP))
    (tmp_path / "root").write_bytes(pem(PKI.root.certificate))
    judge = ("ts", "-verify", "-in", tmp_path / "tsr", "-CAfile", tmp_path / "root", *attime(NOW))
    openssl(*judge, "-data", tmp_path / "data")
    openssl(*judge, "-queryfile", tmp_path / "query")
    (tmp_path / "data").write_bytes(DATA + b".")
    assert not openssl_accepts(*judge, "-data", tmp_path / "data")


def test_openssl_reads_our_query() -> None:
    shown = openssl("ts", "-query", "-in", "/dev/stdin", "-text", stdin=build_query(DATA, nonce=NONCE)).decode()
    assert "sha256" in shown
    assert f"0x{NONCE:016X}" in shown
    assert "Certificate required: yes" in shown
    assert decode(TimeStampReq, build_query(DATA, nonce=None, algorithm="sha512")).nonce is None


# -- twins -------------------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "not DER": (lambda: token() + b"\0", "malformed"),
    "another content type": (lambda: TSA.sign(oids.CT_RECEIPT, DATA), "wrong_content_type"),
    "no TSTInfo": (lambda: TSA.sign(oids.CT_TST_INFO, b"\x05\x00"), "malformed"),
    "a signature changed": (lambda: token()[:-1] + bytes((token()[-1] ^ 1,)), "bad_signature"),
    "version 2": (lambda: token(version=2), "bad_version"),
    "another policy": (lambda: token(policy=oids.POLICY_SERVICE), "unknown_policy"),
    "a weak hash": (
        lambda: token(message_imprint=MessageImprint(hash_algorithm=any_value(SHA1), hashed_message=b"\1" * 20)),
        "bad_algorithm",
    ),
    "other bytes": (lambda: token(message_imprint=imprint_of(DATA + b".")), "wrong_imprint"),
    "another nonce": (lambda: token(nonce=NONCE + 1), "wrong_nonce"),
    "no nonce": (lambda: token(nonce=None), "wrong_nonce"),
    "another authority named": (
        lambda: token(tsa=any_value(tlv(0xA4, name(cn="Other").public_bytes()))),
        "wrong_tsa",
    ),
    "signed another day": (lambda: token(signing_time=NOW + timedelta(hours=1)), "bad_time"),
    "an accuracy of an hour": (
        lambda: token(accuracy=Accuracy(seconds=3600, millis=None, micros=None)),
        "bad_accuracy",
    ),
    "a thousand milliseconds": (lambda: token(accuracy=Accuracy(seconds=1, millis=1000, micros=None)), "bad_accuracy"),
    "negative microseconds": (lambda: token(accuracy=Accuracy(seconds=1, millis=None, micros=-1)), "bad_accuracy"),
    "usage not critical": (lambda: token(authority(critical=False)), "bad_key_usage"),
    "two usages": (
        lambda: token(authority(ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)),
        "bad_key_usage",
    ),
    "another usage": (lambda: token(authority(ExtendedKeyUsageOID.OCSP_SIGNING)), "bad_key_usage"),
    "no usage": (
        lambda: token(
            PKI.issue(
                PKI.operations_ca,
                name(cn="T"),
                {k: v for k, v in role_extensions(Role.TIMESTAMP_AUTHORITY).items() if k != "extended_key_usage"},
            )
        ),
        "bad_key_usage",
    ),
    "a merchant's signature": (lambda: token(PKI.merchant()), "bad_key_usage"),
    "certified by the merchants' authority": (lambda: token(authority(issuer=PKI.merchant_ca)), "wrong_role"),
    "another hierarchy": (
        lambda: token(
            (other := PkiFactory(brand="Other")).issue(
                other.operations_ca,
                name(cn="Time"),
                {
                    **role_extensions(Role.TIMESTAMP_AUTHORITY),
                    "extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
                },
            )
        ),
        "unknown_issuer",
    ),
    "expired at genTime": (lambda: token(authority(not_after=NOW - timedelta(minutes=1))), "expired"),
    "before its certificate": (lambda: token(authority(not_before=NOW + timedelta(minutes=1))), "not_yet_valid"),
    "without certificates": (lambda: without_certificates(token()), "malformed"),
}


@pytest.mark.parametrize("twin", OTHERS)
def test_a_token_with_one_wrong_thing_is_not_believed(twin: str) -> None:
    make, reason = OTHERS[twin]
    assert refused(make()).reason == reason


def test_a_token_answers_a_question_without_nonce_with_none() -> None:
    assert refused(token(), nonce=None).reason == "wrong_nonce"


def test_the_authority_must_not_be_revoked_at_that_time() -> None:
    pki = PkiFactory()
    tsa = pki.issue(
        pki.operations_ca,
        name(cn="Time"),
        {
            **role_extensions(Role.TIMESTAMP_AUTHORITY),
            "extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
        },
    )
    verify_token(token(tsa), DATA, trust=pki.trust(), nonce=NONCE)
    pki.revoke(tsa)
    assert refused(token(tsa), trust=pki.trust()).reason == "revoked"
    late = token(tsa, at=NOW + 2 * DAY)
    assert refused(late, trust=pki.trust()).reason in {"crl_expired", "revoked"}


@given(st.binary(max_size=120))
def test_bytes_that_are_nothing_are_refused_and_break_nothing(data: bytes) -> None:
    refused(data)
    refused(TSA.sign(oids.CT_TST_INFO, data or b"\0"))
    with pytest.raises(TimestampError):
        read_response(data)


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"<html>", b"\x30\x80\x00\x00"])
def test_an_answer_that_is_none_is_malformed(data: bytes) -> None:
    with pytest.raises(TimestampError) as wrong:
        read_response(data)
    assert wrong.value.reason == "malformed"


# -- certificates and answers ------------------------------------------------------------------------------------------


def test_a_token_without_certificates_is_believed_with_those_that_are_known() -> None:
    bare = without_certificates(token())
    stamp = verify_token(
        bare, DATA, trust=PKI.trust(), nonce=NONCE, certificates=[TSA.certificate, TSA.certificate, *TSA.chain]
    )
    assert stamp.path[0] == TSA.certificate
    assert refused(bare, certificates=[authority().certificate]).reason == "signer_missing"
    assert refused(b"\0", certificates=[TSA.certificate]).reason == "malformed"
    made = token()
    assert with_certificates(without_certificates(made), [TSA.certificate, *TSA.chain]) == made
    with pytest.raises(DerError):
        without_certificates(b"\x30\x00")


def test_an_answer_holds_the_token() -> None:
    made = token()
    assert read_response(grant(made)) == made


@pytest.mark.parametrize("failure", list(Failure))
def test_a_refusal_is_named_and_openssl_reads_the_same(failure: Failure) -> None:
    der = reject(failure, "no")
    with pytest.raises(TimestampError, match=failure.name) as caught:
        read_response(der)
    assert caught.value.reason == "rejected"
    shown = openssl("ts", "-reply", "-in", "/dev/stdin", "-text", stdin=der).decode()
    words = {
        Failure.BAD_ALG: "unrecognized or unsupported algorithm",
        Failure.BAD_REQUEST: "transaction not permitted",
        Failure.BAD_DATA_FORMAT: "the data submitted has the wrong format",
        Failure.TIME_NOT_AVAILABLE: "time source is not available",
        Failure.UNACCEPTED_POLICY: "requested TSA policy is not supported",
        Failure.UNACCEPTED_EXTENSION: "requested extension is not supported",
        Failure.ADD_INFO_NOT_AVAILABLE: "additional information requested",
        Failure.SYSTEM_FAILURE: "system failure",
    }
    assert words[failure] in shown


def test_a_refusal_without_reason_is_one_too() -> None:
    status = PkiStatusInfo(status=Status.WAITING, status_string=None, fail_info=None)
    with pytest.raises(TimestampError, match="status 3"):
        read_response(encode(NotGranted(status=status)))


def test_a_token_that_was_not_granted_is_none() -> None:
    status = PkiStatusInfo(status=Status.REJECTION, status_string=None, fail_info=None)
    with pytest.raises(TimestampError) as caught:
        read_response(encode(Granted(status=status, time_stamp_token=any_value(token()))))
    assert caught.value.reason == "malformed"


def test_the_imprint_is_the_hash_of_the_bytes() -> None:
    assert imprint_of(DATA, "sha384").hashed_message == hashlib.sha384(DATA).digest()
