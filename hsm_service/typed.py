"""Typed signing, under the names it had before each kind of structure got a module of its own."""

from hsm_service.judging import SigningKey
from hsm_service.typed_certificate import CertificateOrder, check_certificate
from hsm_service.typed_cms import CmsOrder, ContentValidator, built_in_content_types, check_cms
from hsm_service.typed_crl import CrlOrder, check_crl
from hsm_service.typed_request import RequestOrder, check_request

__all__ = [
    "CertificateOrder",
    "CmsOrder",
    "ContentValidator",
    "CrlOrder",
    "RequestOrder",
    "SigningKey",
    "built_in_content_types",
    "check_certificate",
    "check_cms",
    "check_crl",
    "check_request",
]
