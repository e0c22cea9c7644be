"""Typed signing of PKCS#10 requests: is this CertificationRequestInfo about the key that signs it? (RFC 2986 4.1)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hsm_service.judging import SigningKey, parse, refuse
from hsm_service.request import EXTENSION_REQUEST, CertificationRequestInfo
from pki.der import encode
from pki.keys import spki_der

_MAX_REQUEST: Final = 16_384  # bytes


@dataclass(frozen=True, slots=True)
class RequestOrder:
    """A CertificationRequestInfo for the key itself."""

    info: bytes


def check_request(info: bytes, key: SigningKey) -> RequestOrder:
    """An order to sign the DER CertificationRequestInfo `info`, the request of `key` for a certificate.

    Refused (Problem 422): what is not one CertificationRequestInfo in DER, another key than this one, an empty subject,
    attributes other than one extension request. What the request asks for is judged by the registration authority.
    """
    parsed = parse(CertificationRequestInfo, info, "CertificationRequestInfo", limit=_MAX_REQUEST)
    if parsed.version != 0:
        raise refuse("malformed", "a request is of version 1", "RFC 2986 4.1")
    if encode(parsed.subject_public_key_info) != spki_der(key.public_key):
        raise refuse("foreign-public-key", f"the key in the request is not {key.name}", "RFC 2986 3")
    if not list(parsed.subject):
        raise refuse("empty-subject", "a request names its subject", "RFC 2986 4.1")
    attributes = parsed.attributes.as_list()
    if [attribute.type for attribute in attributes] not in ([], [EXTENSION_REQUEST]):
        raise refuse("unknown-attribute", "the only attribute is one extension request", "RFC 2985 5.4.2")
    return RequestOrder(info)
