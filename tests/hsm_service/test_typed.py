"""Typed signing, without a token: what each structure must be before a key may sign it, one wrong thing at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import CRLEntryExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from cps.decision import Choice, Decision, Revocation, build_decision, build_revocation
from cps.model import OrderReason
from hsm_service.judging import SigningKey
from hsm_service.request import request_info
from hsm_service.templates import built_in
from hsm_service.typed_certificate import check_certificate
from hsm_service.typed_cms import built_in_content_types, check_cms
from hsm_service.typed_crl import MAX_CRL_LIFE, check_crl
from hsm_service.typed_request import check_request
from pki import oids
from pki.attestation import KeyAttestation
from pki.cms_signed import build_signed_attributes
from pki.extensions import authority_key_id, extensions_of
from pki.keys import spki_der
from pki.names import name
from pki.roles import Role
from runtime.problems import Problem
from tests.support.pki_factory import DAY, NOW, Authority, Credential, PkiFactory, role_extensions, rsa_key
from tests.support.signing_site import (
    ACK,
    JUDGES,
    acknowledgement,
    certificate_tbs,
    crl_tbs,
    error,
    merchant_extensions,
)

TEMPLATES = built_in()
PKI = PkiFactory()
SUBJECT = ec.generate_private_key(ec.SECP256R1()).public_key()


def _public(credential: Credential) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    return credential.key.public_key()


def _key(authority: Authority, template: str = "issuing-ca") -> SigningKey:
    credential = authority.credential
    chain = (credential.certificate, *credential.chain)
    return SigningKey("ca", 1, TEMPLATES[template], _public(credential), chain)


MERCHANT_CA = _key(PKI.merchant_ca)
BRAND = _key(PKI.brand, "brand-ca")
ROOT = _key(PKI.root, "root-ca")
SHOP = PKI.merchant("M-1")
SHOP_KEY = SigningKey("shop", 1, TEMPLATES["merchant-signing"], _public(SHOP), (SHOP.certificate, *SHOP.chain))


def _refusal(check: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as caught:
        check()
    return caught.value


# -- certificates ------------------------------------------------------------------------------------------------------


def _tbs(key: SigningKey = MERCHANT_CA, **changes: Any) -> bytes:
    changes.setdefault("public", SUBJECT)
    return certificate_tbs(key.certificate, key.public_key, **changes)


def _ca_extensions(role: Role, path_length: int | None) -> Mapping[str, tuple[x509.ExtensionType, bool]]:
    return role_extensions(role, path_length=path_length)


def _replaced(**extensions: tuple[x509.ExtensionType, bool]) -> dict[str, tuple[x509.ExtensionType, bool]]:
    return {**merchant_extensions(), **extensions}


def _without(extension: str) -> dict[str, tuple[x509.ExtensionType, bool]]:
    return {key: value for key, value in merchant_extensions().items() if key != extension}


@pytest.mark.parametrize("public", [SUBJECT, rsa_key(0).public_key()], ids=["P-256", "RSA"])
def test_a_merchants_certificate_may_be_signed_by_the_merchant_ca(public: Any) -> None:
    tbs = _tbs(public=public, serial=1 << 100)
    order = check_certificate(tbs, MERCHANT_CA)
    assert (order.tbs, order.serial, order.role) == (tbs, 1 << 100, Role.MERCHANT)


def test_a_subordinate_authority_may_be_signed_by_the_brand() -> None:
    tbs = _tbs(BRAND, extensions=_ca_extensions(Role.GATEWAY_CA, 0), subject=name(cn="Gateway CA"))
    assert check_certificate(tbs, BRAND).role is Role.GATEWAY_CA


def test_a_key_without_certificate_signs_its_own_root_certificate() -> None:
    key = replace(ROOT, chain=())
    tbs = _tbs(
        ROOT,
        public=ROOT.public_key,
        subject=ROOT.certificate.subject,
        extensions=_ca_extensions(Role.ROOT, 2),
    )
    assert check_certificate(tbs, key).role is Role.ROOT
    assert check_certificate(tbs, ROOT).role is Role.ROOT


def test_a_root_key_signs_the_brand() -> None:
    tbs = _tbs(ROOT, extensions=_ca_extensions(Role.BRAND, 1), subject=name(cn="Brand"))
    assert check_certificate(tbs, ROOT).role is Role.BRAND


HOSTILE_CERTIFICATES: dict[str, tuple[Callable[[], bytes], str]] = {
    "trailing byte": (lambda: _tbs() + b"\x00", "malformed"),
    "truncated": (lambda: _tbs()[:-1], "malformed"),
    "empty": (lambda: b"", "malformed"),
    "a whole certificate": (lambda: SHOP.der, "malformed"),
    "a digest": (lambda: b"\x55" * 32, "malformed"),
    "signed attributes of a message": (
        lambda: build_signed_attributes(oids.CT_INVOICE, b"", signer=SHOP.certificate, signing_time=NOW),
        "malformed",
    ),
    "version 1": (lambda: _tbs().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00", 1), "not-version-3"),
    "algorithm of another key": (
        lambda: certificate_tbs(MERCHANT_CA.certificate, rsa_key(0).public_key(), public=SUBJECT),
        "algorithm-mismatch",
    ),
    "serial of 63 bits": (lambda: _tbs(serial=(1 << 63) - 1), "bad-serial"),
    "other issuer": (lambda: _tbs(issuer_name=PKI.gateway_ca.certificate.subject), "issuer-mismatch"),
    "issuer spelt in another string type": (
        lambda: _tbs(
            issuer_name=x509.Name(
                [
                    x509.NameAttribute(each.oid, each.value, _type=x509.name._ASN1Type.PrintableString)
                    for each in MERCHANT_CA.certificate.subject
                ]
            )
        ),
        "issuer-mismatch",
    ),
    "authority key of another CA": (lambda: _tbs(authority_key=b"\x01" * 20), "authority-key-mismatch"),
    "no authority key": (lambda: _tbs(authority_key=b""), "authority-key-mismatch"),
    "begins before its issuer": (
        lambda: _tbs(not_before=PKI.merchant_ca.certificate.not_valid_before_utc - timedelta(seconds=1)),
        "validity-outside-issuer",
    ),
    "ends after its issuer": (
        lambda: _tbs(not_after=PKI.merchant_ca.certificate.not_valid_after_utc + timedelta(seconds=1)),
        "validity-outside-issuer",
    ),
    "CA:TRUE": (lambda: _tbs(extensions=_ca_extensions(Role.MERCHANT_CA, 0)), "role-not-allowed"),
    "CA:TRUE smuggled into a merchant's": (
        lambda: _tbs(extensions=_replaced(basic_constraints=(x509.BasicConstraints(ca=True, path_length=0), True))),
        "wrong-role",
    ),
    "cardholder's role": (lambda: _tbs(extensions=role_extensions(Role.CARDHOLDER)), "role-not-allowed"),
    "officer's role": (lambda: _tbs(extensions=role_extensions(Role.OFFICER)), "role-not-allowed"),
    "no policy": (lambda: _tbs(extensions=_without("policies")), "wrong-role"),
    "unknown policy": (
        lambda: _tbs(
            extensions=_replaced(
                policies=(
                    x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]),
                    False,
                )
            )
        ),
        "wrong-role",
    ),
    "no keyUsage": (lambda: _tbs(extensions=_without("key_usage")), "bad-key-usage"),
    "unknown critical extension": (
        lambda: _tbs(
            extensions=_replaced(own=(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True))
        ),
        "unknown-critical-extension",
    ),
    "name constraints, critical": (
        lambda: _tbs(extensions=_replaced(own=(x509.NameConstraints([x509.DNSName("example")], None), True))),
        "unknown-critical-extension",
    ),
    "RSA-2048 subject key": (
        lambda: _tbs(public=rsa_key(0, 2048).public_key()),
        "weak-key",
    ),
    "Ed25519 subject key": (
        lambda: _tbs(public=ed25519.Ed25519PrivateKey.generate().public_key()),
        "weak-algorithm",
    ),
    "the CA's own key": (lambda: _tbs(public=MERCHANT_CA.public_key), "own-key"),
}


@pytest.mark.parametrize("twin", HOSTILE_CERTIFICATES)
def test_a_certificate_with_one_wrong_thing_is_not_signed(twin: str) -> None:
    make, slug = HOSTILE_CERTIFICATES[twin]
    refused = _refusal(lambda: check_certificate(make(), MERCHANT_CA))
    assert (refused.status, refused.type) == (422, slug)
    assert refused.clause


def test_a_negative_serial_is_not_signed() -> None:
    tbs = _tbs(serial=0x7F << 120)
    negative = tbs.replace(b"\x02\x10\x7f", b"\x02\x10\x80", 1)
    assert negative != tbs
    assert _refusal(lambda: check_certificate(negative, MERCHANT_CA)).type in {"bad-serial", "malformed"}


def test_a_validity_that_ends_before_it_begins_is_not_signed() -> None:
    tbs = _tbs(not_before=NOW, not_after=NOW + timedelta(seconds=1))
    begin, end = (b"\x17\x0d" + (NOW + timedelta(seconds=s)).strftime("%y%m%d%H%M%SZ").encode() for s in (0, 1))
    assert begin + end in tbs
    assert _refusal(lambda: check_certificate(tbs.replace(begin + end, end + begin), MERCHANT_CA)).type == (
        "bad-validity"
    )


HOSTILE_AUTHORITIES: dict[str, tuple[SigningKey, dict[str, Any], str]] = {
    "path length as long as the brand's": (BRAND, {"extensions": _ca_extensions(Role.GATEWAY_CA, 1)}, "path-too-long"),
    "no path length": (BRAND, {"extensions": _ca_extensions(Role.GATEWAY_CA, None)}, "path-too-long"),
    "leaf signed by the brand": (BRAND, {}, "role-not-allowed"),
    "brand signed by the brand": (BRAND, {"extensions": _ca_extensions(Role.BRAND, 0)}, "role-not-allowed"),
    "issuing CA signed by the root": (ROOT, {"extensions": _ca_extensions(Role.GATEWAY_CA, 0)}, "role-not-allowed"),
    "root for another key": (
        ROOT,
        {"extensions": _ca_extensions(Role.ROOT, 2), "subject": ROOT.certificate.subject},
        "foreign-root-key",
    ),
    "root of another issuer": (
        ROOT,
        {"extensions": _ca_extensions(Role.ROOT, 2), "public": ROOT.public_key, "subject": name(cn="Another")},
        "issuer-mismatch",
    ),
    "root of another name": (
        ROOT,
        {
            "extensions": _ca_extensions(Role.ROOT, 2),
            "public": ROOT.public_key,
            "subject": name(cn="Another"),
            "issuer_name": name(cn="Another"),
        },
        "issuer-mismatch",
    ),
    "root with the authority key of another": (
        ROOT,
        {
            "extensions": _ca_extensions(Role.ROOT, 2),
            "public": ROOT.public_key,
            "subject": ROOT.certificate.subject,
            "authority_key": b"\x01" * 20,
        },
        "authority-key-mismatch",
    ),
}


@pytest.mark.parametrize("twin", HOSTILE_AUTHORITIES)
def test_an_authority_with_one_wrong_thing_is_not_signed(twin: str) -> None:
    key, changes, slug = HOSTILE_AUTHORITIES[twin]
    assert _refusal(lambda: check_certificate(_tbs(key, **changes), key)).type == slug


def test_a_merchant_ca_issues_no_gateway_although_its_template_could() -> None:
    tbs = _tbs(extensions=role_extensions(Role.GATEWAY_SIGNING))
    refused = _refusal(lambda: check_certificate(tbs, MERCHANT_CA))
    assert refused.type == "role-not-allowed"
    assert "merchant-ca" in refused.detail


def test_a_key_that_is_not_an_authoritys_issues_nothing() -> None:
    refused = _refusal(lambda: check_certificate(_tbs(), replace(MERCHANT_CA, template=SHOP_KEY.template)))
    assert refused.type == "role-not-allowed"


def test_a_key_without_certificate_issues_no_certificate_but_a_root() -> None:
    refused = _refusal(lambda: check_certificate(_tbs(), replace(MERCHANT_CA, chain=())))
    assert (refused.status, refused.type) == (409, "key-has-no-certificate")


@given(st.binary(max_size=200))
def test_bytes_that_are_nothing_are_refused_and_break_nothing(data: bytes) -> None:
    assert _refusal(lambda: check_certificate(data, MERCHANT_CA)).status == 422
    assert _refusal(lambda: check_crl(data, MERCHANT_CA, now=NOW)).status == 422
    assert _refusal(lambda: check_request(data, MERCHANT_CA)).status == 422


@given(st.integers(min_value=0), st.integers(0, 255))
def test_a_certificate_with_any_byte_changed_is_judged_not_crashed(position: int, value: int) -> None:
    tbs = bytearray(_tbs(serial=1 << 100))
    tbs[position % len(tbs)] = value
    with contextlib.suppress(Problem):
        check_certificate(bytes(tbs), MERCHANT_CA)


# -- revocation lists --------------------------------------------------------------------------------------------------


_URL = x509.UniformResourceIdentifier("http://repository.example/crls/merchant-ca/partition-1.crl")
_FRESHEST = x509.FreshestCRL([x509.DistributionPoint([_URL], None, None, None)])
_SIGNED = {5}
"""Numbers of full lists that the key signed."""


def _point(**changes: Any) -> x509.IssuingDistributionPoint:
    fields: dict[str, Any] = {
        "full_name": [_URL],
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**fields, **changes})


def _list(key: SigningKey = MERCHANT_CA, **changes: Any) -> bytes:
    return crl_tbs(key.certificate, key.public_key, **changes)


def test_a_revocation_list_of_the_authority_may_be_signed() -> None:
    tbs = _list(number=7, revoked=[(1, NOW - DAY), (2, NOW)])
    order = check_crl(tbs, MERCHANT_CA, now=NOW)
    assert (order.tbs, order.number, order.revoked) == (tbs, 7, 2)


def _critical_entry() -> bytes:
    return _list_of(x509.UnrecognizedExtension(CRLEntryExtensionOID.CERTIFICATE_ISSUER, b"\x30\x00"), critical=True)


def _removed_entry() -> bytes:
    return _list_of(x509.CRLReason(x509.ReasonFlags.remove_from_crl), critical=False)


def _list_of(extension: x509.ExtensionType, *, critical: bool) -> bytes:
    """A list with one entry that has this extension."""
    entry = (
        x509.RevokedCertificateBuilder()
        .serial_number(1)
        .revocation_date(NOW)
        .add_extension(extension, critical=critical)
        .build()
    )
    from pki.builder import tbs_crl

    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(MERCHANT_CA.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(
                MERCHANT_CA.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
                None,
                None,
            ),
            critical=False,
        )
        .add_revoked_certificate(entry)
    )
    return tbs_crl(builder, MERCHANT_CA.public_key)


HOSTILE_LISTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "trailing byte": (lambda: _list() + b"\x00", "malformed"),
    "a certificate": (lambda: _tbs(), "malformed"),
    "algorithm of another key": (
        lambda: crl_tbs(MERCHANT_CA.certificate, rsa_key(0).public_key()),
        "malformed",
    ),
    "other issuer": (lambda: _list(issuer_name=PKI.gateway_ca.certificate.subject), "issuer-mismatch"),
    "authority key of another CA": (lambda: _list(authority_key=b"\x01" * 20), "authority-key-mismatch"),
    "no authority key": (lambda: _list(authority_key=b""), "authority-key-mismatch"),
    "no number": (lambda: _list(number=None), "crl-number-missing"),
    "thisUpdate in the future": (
        lambda: _list(this_update=NOW + timedelta(minutes=6)),
        "bad-this-update",
    ),
    "thisUpdate two days ago": (lambda: _list(this_update=NOW - 2 * DAY), "bad-this-update"),
    "nextUpdate in years": (lambda: _list(next_update=NOW + MAX_CRL_LIFE + DAY), "bad-next-update"),
    "nextUpdate past": (lambda: _list(this_update=NOW - DAY, next_update=NOW), "bad-next-update"),
    "delta over a list that was not signed": (
        lambda: _list(number=8, extensions=[(x509.DeltaCRLIndicator(6), True)]),
        "unknown-base-crl",
    ),
    "delta over a later list": (
        lambda: _list(number=4, extensions=[(x509.DeltaCRLIndicator(5), True)]),
        "unknown-base-crl",
    ),
    "delta that is not critical": (
        lambda: _list(number=8, extensions=[(x509.DeltaCRLIndicator(5), False)]),
        "not-critical",
    ),
    "partition that is not critical": (lambda: _list(extensions=[(_point(), False)]), "not-critical"),
    "partition of authorities alone": (
        lambda: _list(extensions=[(_point(only_contains_ca_certs=True), True)]),
        "bad-distribution-point",
    ),
    "indirect list": (lambda: _list(extensions=[(_point(indirect_crl=True), True)]), "bad-distribution-point"),
    "partition at two addresses": (
        lambda: _list(extensions=[(_point(full_name=[_URL, _URL]), True)]),
        "bad-distribution-point",
    ),
    "partition that is a name": (
        lambda: _list(extensions=[(_point(full_name=[x509.DNSName("a.example")]), True)]),
        "bad-distribution-point",
    ),
    "delta of a partition": (
        lambda: _list(number=8, extensions=[(x509.DeltaCRLIndicator(5), True), (_point(), True)]),
        "unknown-scope",
    ),
    "delta with a further delta": (
        lambda: _list(number=8, extensions=[(x509.DeltaCRLIndicator(5), True), (_FRESHEST, False)]),
        "freshest-of-delta",
    ),
    "critical freshestCRL": (lambda: _list(extensions=[(_FRESHEST, True)]), "unknown-critical-extension"),
    "removeFromCRL in a full list": (_removed_entry, "bad-reason"),
    "revoked in the future": (lambda: _list(revoked=[(1, NOW + DAY)]), "bad-revocation-date"),
    "listed twice": (lambda: _list(revoked=[(1, NOW), (1, NOW)]), "repeated-entry"),
    "entry with a critical extension": (_critical_entry, "unknown-critical-extension"),
}


@pytest.mark.parametrize("twin", HOSTILE_LISTS)
def test_a_revocation_list_with_one_wrong_thing_is_not_signed(twin: str) -> None:
    make, slug = HOSTILE_LISTS[twin]
    refused = _refusal(lambda: check_crl(make(), MERCHANT_CA, now=NOW, is_full=_SIGNED.__contains__))
    assert (refused.status, refused.type) == (422, slug)


@pytest.mark.parametrize(
    ("scope", "extensions"),
    [
        ("delta", [(x509.DeltaCRLIndicator(5), True)]),
        ("partition", [(_point(), True)]),
        ("full", [(_FRESHEST, False)]),
        ("full", []),
    ],
)
def test_lists_of_every_scope_may_be_signed(scope: str, extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    order = check_crl(_list(number=8, extensions=extensions), MERCHANT_CA, now=NOW, is_full=_SIGNED.__contains__)
    assert (order.scope, order.number) == (scope, 8)


def test_an_authority_without_certificate_signs_no_list() -> None:
    refused = _refusal(lambda: check_crl(_list(), replace(MERCHANT_CA, chain=()), now=NOW))
    assert refused.type == "key-has-no-certificate"


# -- messages ----------------------------------------------------------------------------------------------------------


def _cms(content: bytes, content_type: str = ACK, key: SigningKey = SHOP_KEY, **changes: Any) -> object:
    return check_cms(content_type, content, key, **{"content_types": JUDGES, "now": NOW, **changes})


def test_a_content_of_the_merchant_may_be_signed_and_the_service_makes_the_attributes() -> None:
    content = acknowledgement("M-1")
    order = check_cms(ACK, content, SHOP_KEY, content_types=JUDGES, now=NOW)
    assert order.signed_attributes == build_signed_attributes(
        oids.CT_AUTH_ACK, content, signer=SHOP.certificate, signing_time=NOW
    )


def test_a_content_that_names_another_merchant_is_not_signed() -> None:
    refused = _refusal(lambda: _cms(acknowledgement("M-2")))
    assert (refused.status, refused.type, refused.clause) == (422, "content-refused", "KWBP S1")


@pytest.mark.parametrize(
    "content", [b"", b"\x55" * 32, acknowledgement("M-1")[:-1], acknowledgement("M-1") + b"\x00", error()]
)
def test_bytes_that_are_not_the_content_they_are_called_are_not_signed(content: bytes) -> None:
    assert _refusal(lambda: _cms(content)).type == "content-refused"


def test_a_refusal_repeats_nothing_of_the_content() -> None:
    assert "6219861034529007" not in str(_refusal(lambda: _cms(b"6219861034529007")).document())


@pytest.mark.parametrize(
    "content_type", [oids.CT_AUTH_RES.dotted_string, oids.CT_DUAL_SIGNATURE.dotted_string, "1.2.3", "", "no oid"]
)
def test_a_content_type_that_is_not_in_the_keys_list_is_not_signed(content_type: str) -> None:
    refused = _refusal(lambda: _cms(acknowledgement("M-1"), content_type))
    assert (refused.status, refused.type) == (403, "content-type-not-allowed")
    assert "id-kwbp-ct-authAck" in refused.detail


def test_a_content_type_without_a_judge_is_not_signed() -> None:
    refused = _refusal(lambda: _cms(acknowledgement("M-1"), content_types={}))
    assert (refused.status, refused.type) == (501, "content-type-unknown")


def test_a_key_whose_certificate_is_not_valid_signs_nothing() -> None:
    for now in (SHOP.certificate.not_valid_before_utc, SHOP.certificate.not_valid_after_utc):
        _cms(acknowledgement("M-1"), now=now)
    for now in (
        SHOP.certificate.not_valid_before_utc - timedelta(seconds=1),
        SHOP.certificate.not_valid_after_utc + timedelta(seconds=1),
    ):
        refused = _refusal(lambda now=now: _cms(acknowledgement("M-1"), now=now))  # type: ignore[misc]  # default binds
        assert (refused.status, refused.type) == (409, "certificate-not-valid")


def test_a_key_without_certificate_signs_no_message() -> None:
    refused = _refusal(lambda: _cms(acknowledgement("M-1"), key=replace(SHOP_KEY, chain=())))
    assert refused.type == "key-has-no-certificate"


def test_a_judge_that_breaks_is_no_yes() -> None:
    def broken(_content: bytes, _signer: x509.Certificate) -> None:
        raise KeyError("surprise")

    with pytest.raises(KeyError):
        _cms(acknowledgement("M-1"), content_types={ACK: broken})


def test_attestations_and_decisions_are_judged_without_help() -> None:
    service = PKI.service("ra")
    judges = built_in_content_types()
    chain = (service.certificate, *service.chain)
    attestation = KeyAttestation("shop", 1, b"\x01" * 32, "merchants", True, True, True, True, False, NOW).to_der()
    decision = build_decision(
        Decision("A-1", b"\x01" * 32, b"\x02" * 32, "vet", Choice.APPROVE, "", NOW, NOW + timedelta(days=1))
    )
    for template, content_type, content in (
        ("attestation", oids.CT_KEY_ATTESTATION, attestation),
        ("ra-system", oids.CT_DECISION, decision),
    ):
        key = SigningKey("k", 1, TEMPLATES[template], _public(service), chain)
        check_cms(content_type.dotted_string, content, key, content_types=judges, now=NOW)
        refused = _refusal(
            lambda t=content_type, k=key: check_cms(  # type: ignore[misc]  # defaults bind
                t.dotted_string, b"\x05\x00", k, content_types=judges, now=NOW
            )
        )
        assert refused.type == "content-refused"


def test_a_member_orders_its_own_certificate_to_be_revoked_and_no_other() -> None:
    own = authority_key_id(extensions_of(SHOP.certificate))
    assert own is not None
    judges, serial = built_in_content_types(), SHOP.certificate.serial_number

    def order(key: SigningKey, reason: OrderReason, key_id: bytes = own, number: int = serial) -> None:
        content = build_revocation(Revocation(key_id, number, reason, NOW))
        check_cms(oids.CT_REVOCATION.dotted_string, content, key, content_types=judges, now=NOW)

    order(SHOP_KEY, "keyCompromise")
    order(SHOP_KEY, "certificateHold")
    wrong: tuple[Callable[[], None], ...] = (
        lambda: order(SHOP_KEY, "keyCompromise", number=serial + 1),
        lambda: order(SHOP_KEY, "keyCompromise", key_id=b"\x01" * 20),
        lambda: order(SHOP_KEY, "removeFromCRL"),
    )
    assert [_refusal(each).clause for each in wrong] == ["CPS 4.9.2"] * 3
    service = PKI.service("ra")
    registrar = SigningKey("k", 1, TEMPLATES["ra-system"], _public(service), (service.certificate, *service.chain))
    order(registrar, "cessationOfOperation")
    oid = oids.CT_REVOCATION.dotted_string
    assert (
        _refusal(lambda: check_cms(oid, b"\x05\x00", SHOP_KEY, content_types=judges, now=NOW)).type == "content-refused"
    )


def test_what_is_signed_for_one_kind_is_never_taken_for_another() -> None:
    """No bytes that one check lets a key sign are bytes that another check would: purposes cannot be confused."""
    attributes = build_signed_attributes(oids.CT_AUTH_ACK, acknowledgement(), signer=SHOP.certificate, signing_time=NOW)
    signed = {
        "certificate": _tbs(),
        "crl": _list(),
        "request": request_info(name(cn="x").public_bytes(), (), spki_der(MERCHANT_CA.public_key)),
        "cms": attributes,
    }
    checks: dict[str, Callable[[bytes], object]] = {
        "certificate": lambda data: check_certificate(data, MERCHANT_CA),
        "crl": lambda data: check_crl(data, MERCHANT_CA, now=NOW),
        "request": lambda data: check_request(data, MERCHANT_CA),
    }
    for kind, check in checks.items():
        check(signed[kind])
        for other, data in signed.items():
            if other != kind:
                _refusal(lambda check=check, data=data: check(data))  # type: ignore[misc]  # defaults bind


# -- requests ----------------------------------------------------------------------------------------------------------


def _info(public: Any = None, subject: x509.Name | None = None, uris: tuple[str, ...] = ()) -> bytes:
    spki = spki_der(public or SHOP_KEY.public_key)
    return request_info((name(cn="M-1", o="Bookshop") if subject is None else subject).public_bytes(), uris, spki)


@pytest.mark.parametrize("uris", [(), ("urn:kwbp:merchant:M-1", "https://shop.example")])
def test_a_request_for_the_key_itself_may_be_signed(uris: tuple[str, ...]) -> None:
    info = _info(uris=uris)
    assert check_request(info, SHOP_KEY).info == info


def test_a_request_is_byte_for_byte_what_the_library_makes() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    uri = x509.UniformResourceIdentifier("urn:kwbp:merchant:M-1")
    from cryptography.hazmat.primitives import hashes

    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name(cn="M-1", o="Bookshop"))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )
    assert _info(key.public_key(), uris=(uri.value,)) == made.tbs_certrequest_bytes


HOSTILE_REQUESTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "key of somebody else": (lambda: _info(SUBJECT), "foreign-public-key"),
    "no subject": (lambda: _info(subject=x509.Name([])), "empty-subject"),
    "version 2": (lambda: _info().replace(b"\x02\x01\x00", b"\x02\x01\x01", 1), "malformed"),
    "trailing byte": (lambda: _info() + b"\x00", "malformed"),
    "a message's attributes": (
        lambda: build_signed_attributes(oids.CT_INVOICE, b"", signer=SHOP.certificate, signing_time=NOW),
        "malformed",
    ),
    "challenge password": (
        lambda: (
            x509.CertificateSigningRequestBuilder()
            .subject_name(name(cn="M-1"))
            .add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")
            .sign(SHOP.key, _sha256())
            .tbs_certrequest_bytes
        ),
        "unknown-attribute",
    ),
    "oversized": (lambda: _info(uris=("urn:" + "x" * 20_000,)), "too-big"),
}


def _sha256() -> Any:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


@pytest.mark.parametrize("twin", HOSTILE_REQUESTS)
def test_a_request_with_one_wrong_thing_is_not_signed(twin: str) -> None:
    make, slug = HOSTILE_REQUESTS[twin]
    refused = _refusal(lambda: check_request(make(), SHOP_KEY))
    assert (refused.status, refused.type) == (422, slug)
