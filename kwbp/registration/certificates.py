"""Certificates inside messages of registration."""

from __future__ import annotations

from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from pki.errors import UNREADABLE


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate (DER) of a message.

    :raises ProtocolError: decodingFailure (K1).
    """
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        raise ProtocolError(ErrorCode.DECODING_FAILURE, "K1", "a certificate of the message is not DER") from None
