"""The outer `KwbpMessage`: what lets a server route a body before it has judged it (KWBP global rule 8).

The header is unprotected. Everything in it is repeated inside the protected content, and K2 compares the two, so that a
changed header can at most get a message refused.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.fields import Der, Id20
from kwbp.structure import Structure, decode, encode

MEDIA_TYPE: Final = "application/vnd.kwbp"
"""Content type of a `KwbpMessage` in HTTP; one message a body, at most `kwbp.structure.SIZE_LIMIT` bytes."""


@asn1.sequence
class KwbpMessage(Structure):
    """`SEQUENCE { version INTEGER(2), msgType OID, rrpid, xid [0] OPTIONAL, body OCTET STRING }`."""

    version: int
    msg_type: x509.ObjectIdentifier
    rrpid: Id20
    xid: Annotated[bytes | None, asn1.Implicit(0)]
    body: Der

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_size("xid", self.xid, smallest=20, largest=20)


def wrap(message_type: x509.ObjectIdentifier, body: bytes, *, rrpid: bytes, xid: bytes | None = None) -> bytes:
    """Put `body` (DER of a SignedData, PReq or InvoiceMessage) into a wrapper; returns DER.

    :param message_type: content type of the SignedData, or `MT_PREQ`, `MT_INVOICE` (`pki.oids`).
    :param rrpid: id of the request/response pair, 20 bytes.
    :param xid: id of the purchase, 20 bytes; absent only where none exists yet (InvoiceReq, some Errors).
    """
    return encode(KwbpMessage(version=fields.VERSION, msg_type=message_type, rrpid=rrpid, xid=xid, body=body))


def unwrap(data: bytes, *, expected: Collection[x509.ObjectIdentifier]) -> KwbpMessage:
    """Read a wrapper and see that it announces one of the message types that the caller serves (K1, K2).

    :raises ProtocolError: messageTooBig, decodingFailure, versionTooOld, versionTooNew (K1), messageNotSupported (K2).
    """
    message = decode(KwbpMessage, data)
    if message.msg_type not in expected:
        raise ProtocolError(ErrorCode.MESSAGE_NOT_SUPPORTED, "K2", "message type is not served here")
    return message


def check_header(message: KwbpMessage, message_type: x509.ObjectIdentifier, *, rrpid: bytes, xid: bytes | None) -> None:
    """K2: the header says what the protected content says.

    :raises ProtocolError: wrapperMsgMismatch.
    """
    if (message.msg_type, message.rrpid, message.xid) != (message_type, rrpid, xid):
        raise ProtocolError(
            ErrorCode.WRAPPER_MSG_MISMATCH, "K2", "message type, RRPID and XID of the wrapper must be those inside"
        )
