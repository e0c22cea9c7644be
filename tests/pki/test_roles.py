"""A certificate has a role when type, policy, key usage and CA flag agree, and only then."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki import oids
from pki.errors import CertificateError
from pki.extensions import CertificateType
from pki.roles import ANY_POLICY, PROFILES, Role, role_of
from tests.support.pki_factory import Credential, PkiFactory, key_usage, role_extensions

Extensions = dict[str, tuple[x509.ExtensionType, bool]]


def certificate_with(pki: PkiFactory, extensions: Extensions) -> x509.Certificate:
    return pki.issue(pki.brand, pki.brand.certificate.subject, extensions).certificate


@pytest.mark.parametrize("role", Role)
def test_the_three_statements_of_a_row_make_its_role(pki: PkiFactory, role: Role) -> None:
    assert role_of(certificate_with(pki, role_extensions(role))) is role
    assert role.profile is PROFILES[role]


def test_every_row_is_different() -> None:
    rows = [(p.certificate_type, p.policies, p.key_usage) for p in PROFILES.values()]
    assert len(set(rows)) == len(rows) == len(Role)


def test_every_role_is_issued_by_a_ca() -> None:
    assert all(PROFILES[issuer].is_ca for row in PROFILES.values() for issuer in row.issuers)
    assert [role for role, row in PROFILES.items() if role in row.issuers] == [Role.ROOT]


def test_the_factory_makes_each_role(pki: PkiFactory) -> None:
    made: dict[Role, Credential] = {
        Role.CARDHOLDER: pki.cardholder(),
        Role.MERCHANT: pki.merchant(),
        Role.GATEWAY_SIGNING: pki.gateway_signing(),
        Role.GATEWAY_ENCRYPTION: pki.gateway_encryption(),
        Role.OFFICER: pki.officer(),
        Role.SERVICE: pki.service(),
    }
    for role, credential in made.items():
        assert role_of(credential.certificate) is role
    for authority in pki.authorities:
        assert role_of(authority.certificate) is authority.role


def policies(*oids_: x509.ObjectIdentifier) -> tuple[x509.ExtensionType, bool]:
    return x509.CertificatePolicies([x509.PolicyInformation(oid, None) for oid in oids_]), False


def kind(*bits: str) -> tuple[x509.ExtensionType, bool]:
    return CertificateType(frozenset(bits)).to_extension(), False


CA = (x509.BasicConstraints(ca=True, path_length=None), True)


@pytest.mark.parametrize(
    ("name", "role", "change", "reason"),
    [
        ("type of another role", Role.MERCHANT, {"certificate_type": kind("card")}, "wrong_role"),
        ("two types", Role.MERCHANT, {"certificate_type": kind("mer", "pgwy")}, "wrong_role"),
        ("policy of another role", Role.MERCHANT, {"policies": policies(oids.POLICY_CARDHOLDER)}, "wrong_role"),
        (
            "two policies",
            Role.MERCHANT,
            {"policies": policies(oids.POLICY_MERCHANT_ONLINE, oids.POLICY_GATEWAY)},
            "wrong_role",
        ),
        ("any policy for a merchant", Role.MERCHANT, {"policies": policies(ANY_POLICY)}, "wrong_role"),
        ("merchant that is a CA", Role.MERCHANT, {"basic_constraints": CA}, "wrong_role"),
        ("type for a service", Role.SERVICE, {"certificate_type": kind("pgwy")}, "wrong_role"),
        ("signing and sealing", Role.GATEWAY_SIGNING, {"key_usage": "key_encipherment"}, "bad_key_usage"),
        ("service that encrypts", Role.SERVICE, {"key_usage": "key_encipherment"}, "bad_key_usage"),
        ("CA that signs messages", Role.MERCHANT_CA, {"key_usage": "digital_signature"}, "bad_key_usage"),
        ("key agreement", Role.GATEWAY_ENCRYPTION, {"key_usage": "key_agreement"}, "bad_key_usage"),
    ],
)
def test_statements_that_disagree_give_no_role(
    pki: PkiFactory, name: str, role: Role, change: dict[str, object], reason: str
) -> None:
    extensions = role_extensions(role)
    for part, value in change.items():
        if isinstance(value, str):
            value = (key_usage({*PROFILES[role].key_usage, value}), True)
        extensions[part] = value  # type: ignore[assignment]  # either a usage name, turned into one above, or a pair
    with pytest.raises(CertificateError) as refused:
        role_of(certificate_with(pki, extensions))
    assert refused.value.reason == reason


def usages(*names: str, critical: bool = True) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, name) for name in names]), critical


@pytest.mark.parametrize(
    ("role", "stated"),
    [
        pytest.param(Role.OCSP_RESPONDER, None, id="responder-without"),
        pytest.param(Role.OCSP_RESPONDER, usages("OCSP_SIGNING", "CLIENT_AUTH"), id="responder-that-is-a-client"),
        pytest.param(Role.OCSP_RESPONDER, usages("TIME_STAMPING"), id="responder-that-stamps"),
        pytest.param(Role.TIMESTAMP_AUTHORITY, None, id="tsa-without"),
        pytest.param(Role.TIMESTAMP_AUTHORITY, usages("TIME_STAMPING", critical=False), id="tsa-not-critical"),
        pytest.param(Role.TIMESTAMP_AUTHORITY, usages("TIME_STAMPING", "EMAIL_PROTECTION"), id="tsa-that-mails"),
        pytest.param(Role.SERVICE, usages("SERVER_AUTH", "OCSP_SIGNING"), id="service-that-answers-status"),
        pytest.param(Role.OFFICER, usages("TIME_STAMPING"), id="officer-that-stamps"),
        pytest.param(Role.MERCHANT_CA, usages("OCSP_SIGNING"), id="ca-that-answers-status"),
        pytest.param(Role.SERVICE, usages("ANY_EXTENDED_KEY_USAGE"), id="service-for-anything"),
    ],
)
def test_status_and_time_are_signed_by_keys_that_do_nothing_else(
    pki: PkiFactory, role: Role, stated: tuple[x509.ExtensionType, bool] | None
) -> None:
    extensions = role_extensions(role) | ({} if stated is None else {"extended_key_usage": stated})
    if stated is None:
        del extensions["extended_key_usage"]
    with pytest.raises(CertificateError) as refused:
        role_of(certificate_with(pki, extensions))
    assert refused.value.reason == "bad_key_usage"


def test_a_service_may_be_a_client_and_a_server(pki: PkiFactory) -> None:
    for stated in (usages("CLIENT_AUTH"), usages("SERVER_AUTH", "CLIENT_AUTH", critical=False)):
        extensions = role_extensions(Role.SERVICE) | {"extended_key_usage": stated}
        assert role_of(certificate_with(pki, extensions)) is Role.SERVICE


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("certificate_type", "wrong_role"),
        ("policies", "wrong_role"),
        ("key_usage", "bad_key_usage"),
    ],
)
def test_a_statement_that_is_missing_gives_no_role(pki: PkiFactory, missing: str, reason: str) -> None:
    extensions = role_extensions(Role.MERCHANT)
    del extensions[missing]
    with pytest.raises(CertificateError) as refused:
        role_of(certificate_with(pki, extensions))
    assert refused.value.reason == reason


def test_a_ca_without_basic_constraints_has_no_role(pki: PkiFactory) -> None:
    extensions = role_extensions(Role.MERCHANT_CA)
    del extensions["basic_constraints"]
    with pytest.raises(CertificateError):
        role_of(certificate_with(pki, extensions))


def test_an_end_entity_may_do_without_basic_constraints(pki: PkiFactory) -> None:
    extensions = role_extensions(Role.MERCHANT)
    del extensions["basic_constraints"]
    assert role_of(certificate_with(pki, extensions)) is Role.MERCHANT
