"""What certomancer makes right, our clients accept; wrong times, keys and delegations they refuse, by reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from pki.crl import CrlSet
from pki.errors import OcspError, PathError, TimestampError
from pki.ocsp import verify_ocsp
from pki.path import Trust, validate_path
from pki.roles import Role
from pki.timestamp import build_query, read_response, verify_token
from pki.validator import Validator
from tests.interop.certomancer_pki import NOW, CertomancerPki


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CertomancerPki:
    return CertomancerPki(tmp_path_factory.mktemp("certomancer"))


def trust(made: CertomancerPki, anchor: str = "ops", lists: Sequence[str] = ("ops",)) -> Trust:
    service = made.certificate("service")
    return Trust((made.certificate(anchor),), (service,), CrlSet(made.crl(name) for name in lists))


def test_an_honest_service_is_accepted(made: CertomancerPki) -> None:
    service = made.certificate("service")
    assert validate_path(service, trust=trust(made), now=NOW, roles={Role.SERVICE}).role is Role.SERVICE
    assert Validator(made.certificate("ops"), [], CrlSet([made.crl("ops")])).validate(service, NOW)


@pytest.mark.parametrize(
    ("leaf", "anchor", "lists", "reasons"),
    [
        ("service-ended", "ops", ["ops"], {"expired"}),
        ("service-to-come", "ops", ["ops"], {"not_yet_valid"}),
        ("service-revoked", "ops", ["ops"], {"revoked"}),
        ("service-of-other-key", "ops", ["ops"], {"unknown_issuer", "bad_signature"}),
        ("service-of-other-ca", "ops", ["ops", "other"], {"unknown_issuer"}),
        ("service-of-old-ca", "old-ca", ["old-ca"], {"expired"}),
        ("service-of-no-crl-sign", "no-crl-sign", ["no-crl-sign"], {"bad_key_usage"}),
        ("service-of-no-cert-sign", "no-cert-sign", ["no-cert-sign"], {"bad_key_usage"}),
        ("service-of-service", "ops", ["ops"], {"not_a_ca", "bad_key_usage"}),
        ("service", "ops", [], {"crl_missing"}),
        ("service", "ops", ["other"], {"crl_missing"}),
        ("service", "ops", ["ops-of-other-key"], {"bad_signature", "crl_missing"}),
    ],
)
def test_a_wrong_path_is_refused(
    made: CertomancerPki, leaf: str, anchor: str, lists: list[str], reasons: set[str]
) -> None:
    with pytest.raises(PathError) as error:
        validate_path(made.certificate(leaf), trust=trust(made, anchor, lists), now=NOW, roles={Role.SERVICE})
    assert error.value.reason in reasons


def test_a_list_is_refused_when_its_time_is_over(made: CertomancerPki) -> None:
    stale = Trust((made.certificate("ops"),), (), CrlSet([made.crl("ops", NOW - timedelta(days=90))]))
    with pytest.raises(PathError) as error:
        validate_path(made.certificate("service"), trust=stale, now=NOW, roles={Role.SERVICE})
    assert error.value.reason == "crl_expired"


def asked(made: CertomancerPki, responder: str, subject: str = "service") -> str:
    certificate, issuer = made.certificate(subject), made.certificate("ops")
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1()).build()  # noqa: S303  # RFC 5019
    answer = made.ocsp(responder, request.public_bytes(Encoding.DER))
    try:
        return verify_ocsp(answer, certificate=certificate, issuer=issuer, now=NOW, nonce=None).state
    except OcspError as error:
        return error.reason


def test_the_responder_of_the_issuer_is_believed(made: CertomancerPki) -> None:
    assert asked(made, "ocsp") == "good"
    assert asked(made, "ocsp", "service-revoked") == "revoked"


@pytest.mark.parametrize(
    "responder",
    ["ocsp-of-other-ca", "ocsp-ended", "ocsp-without-usage", "ocsp-that-may-be-revoked", "service"],
)
def test_a_responder_without_delegation_is_not_believed(made: CertomancerPki, responder: str) -> None:
    assert asked(made, responder) == "unauthorised_responder"


def authority(made: CertomancerPki, name: str) -> str:
    try:
        return validate_path(made.certificate(name), trust=trust(made), now=NOW, roles={Role.TIMESTAMP_AUTHORITY}).role
    except PathError as error:
        return error.reason


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("tsa", Role.TIMESTAMP_AUTHORITY),
        ("tsa-of-other-ca", "unknown_issuer"),
        ("tsa-ended", "expired"),
        ("tsa-without-usage", "bad_key_usage"),
        ("tsa-revoked", "revoked"),
        ("service", "wrong_role"),
    ],
)
def test_only_a_good_authority_gives_the_time(made: CertomancerPki, name: str, verdict: str) -> None:
    assert authority(made, name) == verdict


def test_its_time_stamps_are_outside_our_profile_of_signed_data(made: CertomancerPki) -> None:
    """They come without signingTime, which KWBP asks of every signature and RFC 3161 leaves open."""
    token = read_response(made.timestamp("tsa", build_query(b"data", nonce=7)))
    with pytest.raises(TimestampError) as error:
        verify_token(token, b"data", trust=trust(made), nonce=7)
    assert error.value.reason == "bad_attributes"
