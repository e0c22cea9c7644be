"""Blocking rules on KWBP's own extensions: that they can be read, and say the same as the rest (CPS 7.1.2)."""

from __future__ import annotations

from typing import Final

from ca.lint_rule import Rules, Subject
from pki.errors import CertificateError
from pki.extensions import AccountBinding, GatewayData, IdentityChecked, MerchantData, OfficerData, SealingSuites
from pki.names import identity_uris, parse_identity

RULES: Final = Rules()
_UNREADABLE: Final = "cannot be read"


def _identity(subject: Subject) -> str | None:
    parsed = (parse_identity(uri) for uri in identity_uris(subject.certificate))
    return next((each[1] for each in parsed if each is not None), None)


@RULES.rule("merchant-data", "SET Book 2; CPS 7.1.2")
def _merchant_data(subject: Subject) -> str | None:
    if subject.extension(MerchantData.OID) is None:
        return None
    try:
        found = MerchantData.from_certificate(subject.certificate)
    except CertificateError:
        return f"merchantData {_UNREADABLE}"
    if found is not None and found.merchant_id != _identity(subject):
        return "merchantData names another merchant than the subject's identity"
    return None


@RULES.rule("account-binding", "CPS 3.2.2")
def _account_binding(subject: Subject) -> str | None:
    if subject.extension(AccountBinding.OID) is None:
        return None
    try:
        AccountBinding.from_certificate(subject.certificate)
    except CertificateError:
        return f"the account binding {_UNREADABLE}"
    return None


@RULES.rule("gateway-data", "CPS 7.1.2")
def _gateway_data(subject: Subject) -> str | None:
    if subject.extension(GatewayData.OID) is None:
        return None
    try:
        found = GatewayData.from_certificate(subject.certificate)
    except CertificateError:
        return f"gatewayData {_UNREADABLE}"
    if found is not None and found.gateway_id != _identity(subject):
        return "gatewayData names another gateway than the subject's identity"
    return None


@RULES.rule("officer-data", "CPS 5.2.1")
def _officer_data(subject: Subject) -> str | None:
    if subject.extension(OfficerData.OID) is None:
        return None
    try:
        found = OfficerData.from_certificate(subject.certificate)
    except CertificateError:
        return f"officerData {_UNREADABLE}"
    if found is not None and found.person_id != _identity(subject):
        return "officerData names another person than the subject's identity"
    for grant in found.grants if found is not None else ():
        begins, ends = subject.certificate.not_valid_before_utc, subject.certificate.not_valid_after_utc
        if not (grant.not_before <= ends and grant.not_after > begins):
            return f"officerData grants {grant.role} for a time in which the certificate is not valid"
    return None


@RULES.rule("sealing-suites", "RFC 4262 2; CPS 7.1.2")
def _sealing_suites(subject: Subject) -> str | None:
    if subject.extension(SealingSuites.OID) is None:
        return None
    try:
        found = SealingSuites.from_certificate(subject.certificate)
    except CertificateError:
        return f"smimeCapabilities {_UNREADABLE}, or names no suite that is known here"
    extension = subject.extension(SealingSuites.OID)
    if found is not None and extension is not None and found.to_der() != extension.value.public_bytes():
        return "smimeCapabilities names more than the sealing suites that are known here"
    return None


@RULES.rule("identity-checked", "CPS 3.3.1; CPS 7.1.2")
def _identity_checked(subject: Subject) -> str | None:
    if subject.extension(IdentityChecked.OID) is None:
        return None
    try:
        found = IdentityChecked.of(subject.certificate)
    except CertificateError:
        return f"the time of the identity check {_UNREADABLE}"
    if found > subject.certificate.not_valid_before_utc:
        return "the identity was checked after the certificate began: a re-key checks none"
    return None
