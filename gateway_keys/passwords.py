"""Opening a holder's request for a one-time password inside the token boundary (KWBP P2 to P4).

The card's signature lies inside the envelope, for a card number is not shown to the merchant that passes it on. So the
key is used before a signature can be judged, which is why the gateway counts what it asks for (P9). What comes out is
judged here, before anything of it leaves: it must be a request for a password, signed by the card that it names, for
this gateway and its certificate, made just now, for the merchant that passed it on. Whatever else the same key could
open, the data of an order above all, is refused; and every refusal from the opening on looks the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cryptography import x509

from gateway_keys.errors import DecodingFailedError, OrderRefusedError
from hsm_service.errors import DecodingFailure
from hsm_service.keys import KeyRef
from hsm_service.token_operations import TokenOperations
from kwbp.errors import ProtocolError
from kwbp.parties import GatewayIdentity
from kwbp.password import CheckedPasswordRequest, check_password_request, receive_password_request
from kwbp.wrapper import KwbpMessage, unwrap
from pki.cms_enveloped import AuthEnveloped
from pki.oids import CT_OTP_REQ
from pki.path import Trust


def receive(message: bytes, *, gateway: x509.Certificate) -> tuple[KwbpMessage, AuthEnveloped]:
    """K1, K4 and P2, without a key: an envelope of the profile, for the certificate of the key that is to open it.

    :param message: DER KwbpMessage with the OTPReq.
    :raises OrderRefusedError: a check failed.
    """
    try:
        unwrapped = unwrap(message, expected=(CT_OTP_REQ,))
        return unwrapped, receive_password_request(unwrapped, GatewayIdentity.of(gateway))
    except ProtocolError as error:
        raise OrderRefusedError(error.check, error.code, error.detail) from None


def open_request(
    message: KwbpMessage,
    envelope: AuthEnveloped,
    *,
    token: TokenOperations,
    encryption: KeyRef,
    gateway: x509.Certificate,
    merchant_id: str,
    accepts_bin: Callable[[str], bool],
    trust: Trust,
    now: datetime,
) -> CheckedPasswordRequest:
    """Open and judge; whether the card's certificate is revoked is left to the gateway, which fetches the lists.

    :param message: with `envelope` from `receive`. :param merchant_id: who passed it on.
    :param accepts_bin: whether the issuer of a card, by its first six digits, is served (P4).
    :raises DecodingFailedError: the same for every cause.
    :raises HsmError: the token's trouble.
    """
    try:
        plaintext = token.unwrap_and_decrypt_gcm(
            encryption,
            envelope.suite,
            envelope.encrypted_key,
            envelope.nonce,
            envelope.ciphertext,
            envelope.tag,
        )
        return check_password_request(
            plaintext,
            message,
            gateway=GatewayIdentity.of(gateway),
            tls_merchant_id=merchant_id,
            accepts_bin=accepts_bin,
            trust=trust,
            now=now,
            check_revocation=False,
        )
    except DecodingFailure:
        cause = "P3 decodingFailure"
    except ProtocolError as error:
        cause = f"{error.check} {error.code.protocol_name}"
    # Outside the except clause: what is raised there would carry the frames that hold the plaintext as its context.
    raise DecodingFailedError(cause)
