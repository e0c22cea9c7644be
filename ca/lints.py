"""Blocking rules on a certificate that is about to be signed (CPS 4.3.1, ca.md "lint").

They run on a *twin*: the very TBSCertificate that would be signed, under a signature of zeros, so that everything which
reads certificates can read it and nothing can ever believe it. The rules are written against the standards and the
profile, not against `ca.prepare`: a mistake there is found here. Each rule cites what it enforces.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID

from ca import lints_contents, lints_encoding, lints_names
from ca.errors import Finding, LintError, RequestError
from ca.lint_rule import Rules, Subject, binding
from ca.prepare import Issuer, key_identifier
from ca.profile import ATTRIBUTES, EXTENDED_KEY_USAGES, POLICIES, ExtensionName, PolicyName, Profile
from ca.publication import Publication
from cps.entitlement import PublicKey
from pki import oids
from pki.builder import assemble_certificate
from pki.der import tlv
from pki.errors import PkiError
from pki.extensions import CertificateType
from pki.keys import screen_public_key
from pki.roles import role_of

_CRITICAL: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})
_UPPER_BOUND: Final = 64  # RFC 5280 appendix A.1: ub-common-name, ub-organization-name, ub-organizational-unit-name
_SEQUENCE: Final = 0x30
_ZWNJ: Final = "\N{ZERO WIDTH NON-JOINER}"  # a letter joiner that Persian spelling needs
_UTC_TIME_UNTIL: Final = datetime(2050, 1, 1, tzinfo=UTC)
_CARD_NUMBER: Final = re.compile(r"\d(?:[ -]?\d){12,18}")
_OWN_EXTENSIONS: Final[dict[ExtensionName, x509.ObjectIdentifier]] = {
    "merchant_data": oids.SET_MERCHANT_DATA,
    "account_binding": oids.EXT_ACCOUNT_BINDING,
    "gateway_data": oids.EXT_GATEWAY_DATA,
    "officer_data": oids.EXT_OFFICER_DATA,
    "sealing_suites": oids.SMIME_CAPABILITIES,
    "identity_checked": oids.EXT_IDENTITY_CHECKED,
    "hashed_root_key": oids.EXT_HASHED_ROOT_KEY,
}


_RULES: Final = Rules()
_rule: Final = _RULES.rule


def twin(tbs: bytes, issuer_key: PublicKey) -> x509.Certificate:
    """The certificate that `tbs` would become, under a signature that is all zeros."""
    signature = bytes((issuer_key.key_size + 7) // 8) if isinstance(issuer_key, rsa.RSAPublicKey) else _ZERO_ECDSA
    return x509.load_der_x509_certificate(assemble_certificate(tbs, signature, issuer_key))


_ZERO_ECDSA: Final = bytes.fromhex("3006020100020100")  # SEQUENCE { r 0, s 0 }: no ECDSA signature has either

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    PkiError,
    RequestError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)


def lint(
    tbs: bytes,
    profile: Profile,
    *,
    issuer: Issuer | None,
    issuer_key: PublicKey,
    publication: Publication,
    now: datetime,
) -> tuple[Finding, ...]:
    """Every rule that the TBSCertificate (DER) breaks; empty if it may be signed.

    `issuer` is None for a self-signed root, `issuer_key` the public half of the key that would sign. A TBSCertificate
    that cannot be read is one finding.
    """
    try:
        certificate = twin(tbs, issuer_key)
        list(certificate.extensions)  # a duplicate or malformed extension raises here
        subject = Subject(certificate, profile, issuer, issuer_key, publication, now)
        broken = [(rule, rule.check(subject)) for rule in binding(LINTS, now)]  # a name or key, where it is looked at
    except _UNREADABLE as error:
        return (Finding("readable", "RFC 5280 4.1", f"not a readable TBSCertificate: {error}"),)
    return tuple(Finding(rule.code, rule.clause, message) for rule, message in broken if message is not None)


def require_clean(
    tbs: bytes,
    profile: Profile,
    *,
    issuer: Issuer | None,
    issuer_key: PublicKey,
    publication: Publication,
    now: datetime,
) -> tuple[str, ...]:
    """The codes of all rules, each of which `tbs` keeps; raises LintError naming the ones it breaks."""
    findings = lint(tbs, profile, issuer=issuer, issuer_key=issuer_key, publication=publication, now=now)
    if findings:
        raise LintError(f"a {profile.name} certificate may not be signed", findings)
    return tuple(rule.code for rule in binding(LINTS, now))


# --- the form of the certificate (RFC 5280 4.1)


@_rule("version-3", "RFC 5280 4.1.2.1")
def _version(subject: Subject) -> str | None:
    if subject.certificate.version is not x509.Version.v3:
        return "a certificate with extensions is of version 3"
    return None


@_rule("serial", "RFC 5280 4.1.2.2; CPS 7.1")
def _serial(subject: Subject) -> str | None:
    serial = subject.certificate.serial_number
    # A DER INTEGER of 20 octets has 159 bits beside the sign.
    if not 1 << 64 <= serial < 1 << 159:
        return "the serial number is not a positive number of 65 to 159 bits"
    return None


@_rule("signature-algorithm", "RFC 5280 4.1.1.2; CPS 7.1.3")
def _signature_algorithm(subject: Subject) -> str | None:
    if subject.signature_identifier not in subject.tbs[:128]:
        return "the signature algorithm is not the one of the issuer's key"
    return None


@_rule("issuer-name", "RFC 5280 4.1.2.4")
def _issuer_name(subject: Subject) -> str | None:
    expected = subject.issuer.subject.public_bytes() if subject.issuer else subject.name.public_bytes()
    if subject.certificate.issuer.public_bytes() != expected:
        return "the issuer name is not, byte for byte, the subject of the issuer's certificate"
    return None


@_rule("validity-encoding", "RFC 5280 4.1.2.5")
def _validity_encoding(subject: Subject) -> str | None:
    if _validity(subject.certificate.not_valid_before_utc, subject.certificate.not_valid_after_utc) not in subject.tbs:
        return "dates through 2049 are UTCTime, later ones GeneralizedTime, in whole seconds and Z"
    return None


@lru_cache(maxsize=256)  # many are made in one second
def _validity(start: datetime, end: datetime) -> bytes:
    return tlv(_SEQUENCE, _time(start) + _time(end))


def _time(moment: datetime) -> bytes:
    if moment < _UTC_TIME_UNTIL:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


@_rule("validity-period", "CPS 6.3.2")
def _validity_period(subject: Subject) -> str | None:
    start, end = subject.certificate.not_valid_before_utc, subject.certificate.not_valid_after_utc
    if not start <= subject.now < end:
        return "it is not valid now"
    if end - start > subject.profile.validity.max:
        return f"it lives {end - start}, longer than the {subject.profile.validity.max} of its profile"
    if subject.now - start > subject.profile.validity.backdate + timedelta(seconds=1):
        return "it is set back further than its profile allows"
    return None


@_rule("validity-nested", "CPS 6.3.2; RFC 5280 6.1.3")
def _validity_nested(subject: Subject) -> str | None:
    if subject.issuer is None:
        return None
    issuer, certificate = subject.issuer.certificate, subject.certificate
    if certificate.not_valid_before_utc < issuer.not_valid_before_utc:
        return "it begins before its issuer"
    if certificate.not_valid_after_utc > issuer.not_valid_after_utc:
        return "it outlives its issuer"
    return None


@_rule("subject-attributes", "RFC 5280 4.1.2.6; CPS 3.1.1")
def _subject_attributes(subject: Subject) -> str | None:
    rule, present = subject.profile.subject, [attribute.oid for attribute in subject.name]
    allowed = {ATTRIBUTES[name] for name in (*rule.required, *rule.optional)}
    missing = [name for name in rule.required if ATTRIBUTES[name] not in present]
    if missing:
        return f"the subject lacks {', '.join(missing)}"
    if len(set(present)) != len(present) or not allowed.issuperset(present):
        return "the subject has an attribute twice, or one that its profile does not know"
    return None


@_rule("subject-text", "RFC 5280 A.1; CPS 3.1.1")
def _subject_text(subject: Subject) -> str | None:
    for attribute in subject.name:
        value = attribute.value
        if not isinstance(value, str) or not value.strip() or len(value) > _UPPER_BOUND:
            return f"{attribute.rfc4514_attribute_name} is empty or longer than {_UPPER_BOUND} characters"
        # Controls and bidirectional overrides let a name look like another one (protocol.md, threat 41).
        if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} and char != _ZWNJ for char in value):
            return f"{attribute.rfc4514_attribute_name} holds characters that cannot be seen"
        if attribute.oid == NameOID.COUNTRY_NAME and not re.fullmatch("[A-Z]{2}", value):
            return "the country is not two capital letters (ISO 3166)"
    return None


@_rule("subject-privacy", "CPS 3.1.3")
def _subject_privacy(subject: Subject) -> str | None:
    forbidden = subject.profile.subject.forbid
    if "email" in forbidden and (_mail_names(subject) or any("@" in text for text in subject.texts)):
        return "it carries an e-mail address"
    if "pan" in forbidden and any(map(_holds_card_number, subject.texts)):
        return "its subject holds what may be a card number"
    return None


def _mail_names(subject: Subject) -> bool:
    names = subject.extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    return (
        names is not None
        and isinstance(names.value, x509.SubjectAlternativeName)
        and bool(names.value.get_values_for_type(x509.RFC822Name))
    )


def _holds_card_number(text: str) -> bool:
    for match in _CARD_NUMBER.finditer(text):
        digits = [unicodedata.digit(char) for char in match.group() if char.isdigit()]
        doubled = [digit * 2 - 9 * (digit > 4) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
        if sum(doubled) % 10 == 0:
            return True
    return False


@_rule("key", "CPS 6.1.5, 6.1.6")
def _key(subject: Subject) -> str | None:
    key = subject.certificate.public_key()  # which may be of a kind that nobody certifies
    try:
        screen_public_key(key)
    except PkiError as error:
        return f"the key is refused: {error}"
    return subject.profile.key.refusal(key)


# --- extensions (RFC 5280 4.2)


@_rule("critical-extensions", "RFC 5280 4.2; CPS 7.1.2")
def _critical(subject: Subject) -> str | None:
    critical = {extension.oid for extension in subject.certificate.extensions if extension.critical}
    usage = {ExtensionOID.EXTENDED_KEY_USAGE} if subject.profile.critical_usage else set()
    if critical != _CRITICAL | usage:
        return "basicConstraints and keyUsage are critical, extendedKeyUsage if the profile says so, nothing else is"
    return None


@_rule("known-extensions", "CPS 7.1.2")
def _known(subject: Subject) -> str | None:
    profile = subject.profile
    own = {_OWN_EXTENSIONS[name] for name in profile.extensions.required}
    optional = {_OWN_EXTENSIONS[name] for name in profile.extensions.optional}
    expected = {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        *own,
    }
    for oid, wanted in (
        (ExtensionOID.EXTENDED_KEY_USAGE, profile.extended_key_usage),
        (ExtensionOID.OCSP_NO_CHECK, profile.ocsp_no_check),
        (ExtensionOID.CERTIFICATE_POLICIES, profile.policies),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, profile.identity),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, subject.issuer),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, subject.issuer),
        (oids.SET_CERTIFICATE_TYPE, profile.set_certificate_type),
    ):
        if wanted:
            expected.add(oid)
    present = {extension.oid for extension in subject.certificate.extensions}
    if not expected <= present:
        return "it lacks " + ", ".join(sorted(oid.dotted_string for oid in expected - present))
    if not present <= expected | optional:
        return "it carries " + ", ".join(sorted(oid.dotted_string for oid in present - expected - optional))
    return None


@_rule("subject-key-identifier", "RFC 5280 4.2.1.2")
def _subject_key_identifier(subject: Subject) -> str | None:
    expected = x509.SubjectKeyIdentifier.from_public_key(subject.key)
    return subject.differs(expected, "subjectKeyIdentifier is not the SHA-1 of the public key")


@_rule("authority-key-identifier", "RFC 5280 4.2.1.1")
def _authority_key_identifier(subject: Subject) -> str | None:
    expected = x509.AuthorityKeyIdentifier(key_identifier(subject.issuer, subject.issuer_key), None, None)
    return subject.differs(expected, "authorityKeyIdentifier is not the issuer's subjectKeyIdentifier, alone")


@_rule("basic-constraints", "RFC 5280 4.2.1.9")
def _basic_constraints(subject: Subject) -> str | None:
    authority = subject.profile.ca
    expected = x509.BasicConstraints(authority is not None, authority.path_length if authority else None)
    return subject.differs(expected, f"basicConstraints is not {expected!r}")


@_rule("path-length", "RFC 5280 4.2.1.9")
def _path_length(subject: Subject) -> str | None:
    if subject.profile.ca is None or subject.issuer is None:
        return None
    limit = subject.issuer.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if limit is not None and subject.profile.ca.path_length >= limit:
        return f"its issuer may be followed by {limit} authorities at most"
    return None


@_rule("key-usage", "RFC 5280 4.2.1.3; KWBP global rule 4")
def _key_usage(subject: Subject) -> str | None:
    expected = subject.profile.key_usage_extension()
    return subject.differs(expected, f"keyUsage is not exactly {', '.join(sorted(subject.profile.key_usage))}")


@_rule("extended-key-usage", "RFC 5280 4.2.1.12")
def _extended_key_usage(subject: Subject) -> str | None:
    names = subject.profile.extended_key_usage
    if not names:
        return None  # that it is absent then: known-extensions
    expected = x509.ExtendedKeyUsage([EXTENDED_KEY_USAGES[name] for name in names])
    return subject.differs(expected, f"extendedKeyUsage is not exactly {', '.join(names)}")


@lru_cache(maxsize=256)
def _expected_policies(names: tuple[PolicyName, ...], cps_uri: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(POLICIES[name], [cps_uri]) for name in names])


@_rule("certificate-policies", "RFC 5280 4.2.1.4; CPS 1.2")
def _policies(subject: Subject) -> str | None:
    if not subject.profile.policies:
        return None
    expected = _expected_policies(subject.profile.policies, subject.publication.cps_uri)
    return subject.differs(expected, "certificatePolicies does not name the class of the profile with the CPS URI")


@_rule("subject-alternative-name", "RFC 5280 4.2.1.6; CPS 3.1.1")
def _alternative_name(subject: Subject) -> str | None:
    extension, rule = subject.extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME), subject.profile.identity
    if extension is None or rule is None or not isinstance(extension.value, x509.SubjectAlternativeName):
        return None
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    identities = [uri for uri in uris if uri.lower().startswith("urn:")]
    if len(identities) != 1 or not rule.accepts(identities[0]):
        return "it does not carry exactly one identity of its profile"
    origins = [uri for uri in uris if uri not in identities]
    if origins and not (rule.origin and all(re.fullmatch(r"https://[a-z0-9.-]+(:\d{1,5})?", uri) for uri in origins)):
        return "a URI beside the identity is not an origin (https, host, no path) that its profile allows"
    hosts = [name for name in extension.value if isinstance(name, x509.DNSName | x509.IPAddress)]
    if (hosts and not rule.hosts) or len(hosts) + len(uris) != len(list(extension.value)):
        return "it carries host names where none belong, or names of another kind"
    return None


@_rule("crl-distribution-point", "RFC 5280 4.2.1.13; CPS 2.2")
def _crl_distribution_point(subject: Subject) -> str | None:
    if subject.issuer is None:
        return None
    url = subject.publication.distribution_point(
        subject.issuer.name, subject.certificate.serial_number, subject.issuer.crl_partitions
    )
    return subject.differs(_expected_point(url), f"cRLDistributionPoints does not name {url} alone")


@lru_cache(maxsize=256)
def _expected_point(url: str) -> x509.CRLDistributionPoints:
    name = x509.UniformResourceIdentifier(url)
    return x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None)])


@_rule("authority-information-access", "RFC 5280 4.2.2.1; CPS 2.2")
def _authority_information_access(subject: Subject) -> str | None:
    if subject.issuer is None:
        return None
    publication = subject.publication
    answered = not subject.issuer.is_root and not subject.profile.ocsp_no_check
    urls = (publication.certificate_url(subject.issuer.name), publication.ocsp_url if answered else None)
    expected = _expected_access(*urls)
    return subject.differs(expected, f"authorityInfoAccess does not name {' and '.join(filter(None, urls[::-1]))}")


@lru_cache(maxsize=256)
def _expected_access(ca_url: str, ocsp_url: str | None) -> x509.AuthorityInformationAccess:
    methods = ((AuthorityInformationAccessOID.OCSP, ocsp_url), (AuthorityInformationAccessOID.CA_ISSUERS, ca_url))
    return x509.AuthorityInformationAccess(
        x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
        for method, url in methods
        if url is not None
    )


@_rule("set-certificate-type", "SET Book 2; CPS 7.1.2")
def _certificate_type(subject: Subject) -> str | None:
    found = CertificateType.from_certificate(subject.certificate)
    bits = found.bits if found else frozenset()
    if bits != subject.profile.set_certificate_type:
        return f"SET certificateType is {sorted(bits)}, not {sorted(subject.profile.set_certificate_type)}"
    return None


@_rule("role", "CPS 1.3; KWBP K5")
def _role(subject: Subject) -> str | None:
    try:
        role = role_of(subject.certificate)
    except PkiError as error:
        return f"relying parties would not recognise its role: {error}"
    return None if role is subject.profile.role else f"relying parties would take it for {role}"


LINTS: Final = (*_RULES.lints, *lints_encoding.RULES.lints, *lints_names.RULES.lints, *lints_contents.RULES.lints)
"""All of them, in the order in which they are tried."""
