"""The judge `pkilint` (pure Python, so it runs in this process): what it calls an error in an artefact.

One kind of finding is left out: it takes every URI for a URL, so it calls the names `urn:kwbp:…` malformed, which RFC
5280 4.2.1.6 allows (a URI with a scheme and a scheme-specific part) and RFC 8141 defines.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pkilint import loader, pkix
from pkilint.pkix import certificate, crl, extension, name, ocsp
from pkilint.validation import ValidationFindingSeverity


def _decoders() -> list[Any]:
    return [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ]


@lru_cache(maxsize=1)
def _certificate_validator() -> Any:
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@lru_cache(maxsize=1)
def _crl_validator() -> Any:
    return crl.create_pkix_crl_validator_container(
        _decoders(),
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


@lru_cache(maxsize=1)
def _ocsp_validator() -> Any:
    return ocsp.create_pkix_ocsp_response_validator_container([ocsp.create_response_decoder(), *_decoders()], [])


def certificate_errors(der: bytes) -> list[str]:
    """The errors of a DER certificate, as `code: message`."""
    return _errors(loader.RFC5280CertificateDocumentLoader(), _certificate_validator, der)


def crl_errors(der: bytes) -> list[str]:
    """The errors of a DER CertificateList."""
    return _errors(loader.RFC5280CertificateListDocumentLoader(), _crl_validator, der)


def ocsp_errors(der: bytes) -> list[str]:
    """The errors of a DER OCSPResponse."""
    return _errors(loader.RFC6960OCSPResponseDocumentLoader(), _ocsp_validator, der)


def _errors(reader: Any, validator: Callable[[], Any], der: bytes) -> list[str]:
    document = reader.load_der_file(io.BytesIO(der), "artefact", "artefact")
    return [
        f"{found.finding.code}: {found.message or ''}"
        for result in validator().validate(document.root)
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.ERROR and not _is_urn(found)
    ]


def _is_urn(found: Any) -> bool:
    return found.finding.code == "pkix.invalid_uri_syntax" and '"urn:kwbp:' in (found.message or "")
