"""Blocking rules on the names in a certificate: how they are written, and that none passes for another (CPS 3.1)."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtensionOID, NameOID

from ca.lint_rule import Rules, Subject
from pki.roles import Role

RULES: Final = Rules()
_ORDER: Final = (
    NameOID.COUNTRY_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.COMMON_NAME,
)
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_COMMITMENT: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of 32 bytes
_SCRIPTS: Final = ("LATIN", "ARABIC")
_ARABIC_FORMS: Final = frozenset("\N{ARABIC LETTER YEH}\N{ARABIC LETTER ALEF MAKSURA}\N{ARABIC LETTER KAF}")


@RULES.rule("subject-not-issuer", "RFC 5280 3.2; CPS 3.1.5")
def _not_issuer(subject: Subject) -> str | None:
    certificate = subject.certificate
    if subject.issuer is not None and subject.name == certificate.issuer:
        return "it has the name of its issuer, and would pass for self-issued"
    return None


@RULES.rule("subject-single-valued", "CPS 3.1.1")
def _single_valued(subject: Subject) -> str | None:
    if any(len(list(rdn)) != 1 for rdn in subject.name.rdns):
        return "a relative distinguished name has several values"
    return None


@RULES.rule("subject-order", "CPS 3.1.1; X.520 A")
def _order(subject: Subject) -> str | None:
    places = [_ORDER.index(each.oid) for each in subject.name if each.oid in _ORDER]
    if places != sorted(places):
        return "the attributes of the subject do not go from the country to the common name"
    return None


@RULES.rule("subject-string-type", "RFC 5280 4.1.2.4, A.1")
def _string_type(subject: Subject) -> str | None:
    for attribute in subject.name:
        wanted = _ASN1Type.PrintableString if attribute.oid == NameOID.COUNTRY_NAME else _ASN1Type.UTF8String
        if attribute._type is not wanted:
            return f"{attribute.rfc4514_attribute_name} is not a {wanted.name}"
    return None


@RULES.rule("subject-spaces", "RFC 4518 2.6.1; CPS 3.1.4")
def _spaces(subject: Subject) -> str | None:
    # A name of nothing but space is subject-text's to refuse.
    if any(text.strip() and " ".join(text.split()) != text for text in subject.texts):
        return "a name begins or ends with a space, or has two in a row"
    return None


@RULES.rule("subject-normalised", "RFC 5280 7.1; CPS 3.1.4")
def _normalised(subject: Subject) -> str | None:
    for text in subject.texts:
        if unicodedata.normalize("NFC", text) != text:
            return "a name is not in normalisation form C"
        if _ARABIC_FORMS & set(text):
            return "a name is written with the Arabic letters for ye and kaf, which look like the Persian ones"
    return None


@lru_cache(maxsize=1024)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "?").split()[0]


@RULES.rule("subject-script", "CPS 3.1.4")
def _script(subject: Subject) -> str | None:
    for text in subject.texts:
        for word in re.split(r"[\W\d_]+", text):
            scripts = set(map(_script_of, word))
            if not scripts <= set(_SCRIPTS) or len(scripts) > 1:
                return f"the word {word!r} mixes scripts, or is written in one that names are not written in"
    return None


@RULES.rule("cardholder-name", "CPS 3.1.1/cardholder")
def _cardholder_name(subject: Subject) -> str | None:
    if subject.profile.role is not Role.CARDHOLDER:
        return None
    if not all(
        _COMMITMENT.fullmatch(str(each.value)) for each in subject.name.get_attributes_for_oid(NameOID.COMMON_NAME)
    ):
        return "a cardholder's common name is the commitment to the card: 43 characters of base64url"
    return None


@RULES.rule("host-names", "RFC 5280 4.2.1.6; RFC 1123 2.1")
def _hosts(subject: Subject) -> str | None:
    extension = subject.extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    if extension is None or not isinstance(extension.value, x509.SubjectAlternativeName):
        return None
    for name in extension.value.get_values_for_type(x509.DNSName):
        if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
            return f"{name!r} is not a host name in small letters, without wildcard"
    for address in extension.value.get_values_for_type(x509.IPAddress):
        if ip_address(str(address)).is_unspecified or ip_address(str(address)).is_multicast:
            return f"{address} is nobody's address"
    return None
