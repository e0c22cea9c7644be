"""What H and L have in common: who may ask, and what a second request under one RRPID is."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.common import require
from kwbp.errors import ProtocolError
from kwbp.gateway.request import EnrolledMerchant
from kwbp.parties import GatewayIdentity, MerchantIdentity, gateway_data


def require_requester(
    merchant_id: str, signer: x509.Certificate, merchant: EnrolledMerchant | None, *, tls_merchant_id: str, check: str
) -> None:
    """H1, L1: the merchant that asks is active here, and at the other end of the TLS connection.

    :param signer: not verified yet. :param merchant: the registry's record of `merchant_id`, None if there is none.
    :raises ProtocolError: roleNotAllowed.
    """
    if merchant is None or not merchant.active or merchant.merchant_id != merchant_id:
        raise ProtocolError(ErrorCode.ROLE_NOT_ALLOWED, check, "merchant must be active at this gateway")
    require(
        tls_merchant_id == merchant_id == MerchantIdentity.of(signer).merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        check,
        "merchant must be the TLS peer and the signer",
    )


def require_gateway(signer: x509.Certificate, gw_id: str, gateway: GatewayIdentity, *, check: str) -> None:
    """H4, L1: the request names this gateway, and its signer belongs to the same acquirer.

    :raises ProtocolError: gatewayMismatch.
    """
    require(
        (gw_id, MerchantIdentity.of(signer).acquirer_bin) == (gateway.gateway_id, gateway.acquirer_bin),
        ErrorCode.GATEWAY_MISMATCH,
        check,
        "request must be for this gateway, of a merchant of its acquirer",
    )


def require_signed_by(signer: x509.Certificate, named: tuple[str, str], asked: tuple[str, str], *, check: str) -> None:
    """J5, L7, N1: gateway id and acquirer of the certificate, of the answer and of whom was asked are the same.

    :raises ProtocolError: gatewayMismatch.
    """
    data = gateway_data(signer)
    require(
        (data.gateway_id, data.acquirer_bin) == named == asked,
        ErrorCode.GATEWAY_MISMATCH,
        check,
        "signer must be the gateway that is named, and that was asked",
    )


def is_repeat(requests: Mapping[bytes, bytes], rrpid: bytes, digest: bytes, *, check: str) -> bool:
    """H3, L2: whether this very request was taken in before; its answer is then the one it had.

    :param requests: hash of each request that was taken in, by RRPID.
    :raises ProtocolError: badMessageHeader if another request had the RRPID.
    """
    known = requests.get(rrpid)
    require(known in (None, digest), ErrorCode.BAD_MESSAGE_HEADER, check, "RRPID was used by another request")
    return known is not None
