"""What every validator of a content to be signed begins with: the role of the key, and refusals at S1."""

from __future__ import annotations

from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.common import require
from kwbp.errors import ProtocolError
from kwbp.parties import MerchantIdentity
from pki.errors import CertificateError
from pki.roles import Role, role_of


def require_statement(condition: bool, detail: str) -> None:
    """S1: the key may say this.

    :raises ProtocolError: roleNotAllowed.
    """
    require(condition, ErrorCode.ROLE_NOT_ALLOWED, "S1", detail)


def require_role(signer: x509.Certificate, *roles: Role) -> None:
    """S1: the key's certificate has one of `roles`.

    :raises ProtocolError: invalidCertificate if it has none at all, roleNotAllowed if it has another.
    """
    try:
        role = role_of(signer)
    except CertificateError as error:
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "S1", f"key has no role ({error.reason})") from None
    require_statement(role in roles, f"{role} may not sign this content")


def merchant_of(signer: x509.Certificate) -> MerchantIdentity:
    """S1: the merchant whose key it is.

    :raises ProtocolError: as `require_role`.
    """
    require_role(signer, Role.MERCHANT)
    return MerchantIdentity.of(signer)
