"""Distinguished names and the URIs by which parties know each other.

A subject's common name is for people; what code trusts is a URI in subjectAltName:
`urn:kwbp:service:<name>`, `urn:kwbp:merchant:<merchant id>`, `urn:kwbp:officer:<person id>`, `urn:kwbp:gateway:<id>`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.der import decode
from pki.errors import CertificateError
from pki.extensions import extensions_of

_IDENTITY: Final = re.compile(r"urn:kwbp:(service|merchant|officer|gateway):([A-Za-z0-9][A-Za-z0-9._-]{0,63})")


def name(*, cn: str, o: str | None = None, ou: str | None = None, c: str | None = "IR") -> x509.Name:
    """Build a distinguished name, most general attribute first (X.520: c, o, ou, cn); ValueError on bad lengths."""
    parts = (
        (NameOID.COUNTRY_NAME, c),
        (NameOID.ORGANIZATION_NAME, o),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, ou),
        (NameOID.COMMON_NAME, cn),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value is not None])


def parse_name(der: bytes) -> x509.Name:
    """Read a DER Name (at most 4 KiB); DerError if it is not exactly one."""
    return decode(x509.Name, der, limit=4096)


def common_name(distinguished_name: x509.Name) -> str:
    """Return the only commonName of a name; CertificateError `bad_name` if there is none or more than one."""
    values = distinguished_name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(values) != 1:
        raise CertificateError("bad_name", f"{len(values)} common names, not one", clause="RFC 5280 4.1.2.6")
    return str(values[0].value)


def identity_uri(kind: str, identifier: str) -> str:
    """Compose `urn:kwbp:<kind>:<identifier>`; ValueError if the two do not make a well-formed identity."""
    uri = f"urn:kwbp:{kind}:{identifier}"
    if _IDENTITY.fullmatch(uri) is None:
        raise ValueError("not a KWBP identity")
    return uri


def parse_identity(uri: str) -> tuple[str, str] | None:
    """Split `urn:kwbp:<kind>:<identifier>` into kind and identifier; None for any other URI."""
    match = _IDENTITY.fullmatch(uri)
    return None if match is None else (match[1], match[2])


@lru_cache(maxsize=4096)
def identity_uris(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the URIs of subjectAltName, in order; empty without the extension (RFC 5280 4.2.1.6).

    CertificateError `bad_extension` if an extension cannot be read.
    """
    try:
        names = extensions_of(certificate).get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
