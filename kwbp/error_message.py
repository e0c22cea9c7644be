"""The Error message (row 24): a refusal that the other side can hold its sender to, and that gives nothing away.

It carries the code that outsiders may learn (`ProtocolError.outward`), the id of the check and the hash of the message
that was refused. There is no field for free text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import Draft, read_signed, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.messages import ErrorTBS
from kwbp.structure import decode
from kwbp.wrapper import KwbpMessage, check_header
from pki.der import sha256
from pki.oids import CT_ERROR
from pki.path import Trust
from pki.roles import Role

NO_RRPID: Final = bytes(20)
"""RRPID of an Error about a message whose wrapper could not be read."""


def build_error(error: ProtocolError, *, refused: bytes, now: datetime) -> Draft[ErrorTBS]:
    """Error (row 24), to be signed by whoever refused; without a certificate, send `draft.message(draft.content)`.

    :param refused: the message as it was received, wrapper included, whether or not it can be read.
    """
    try:
        message = decode(KwbpMessage, refused)
    except ProtocolError:
        rrpid, xid = NO_RRPID, None
    else:
        rrpid, xid = message.rrpid, message.xid
    body = ErrorTBS(
        version=fields.VERSION,
        error_code=error.outward,
        rrpid=rrpid,
        xid=xid,
        h_message=sha256(refused),
        date=fields.to_time(now),
        time_hint=fields.to_time(error.time_hint) if error.time_hint is not None else None,
        clause=error.outward_check,
    )
    return Draft.of(CT_ERROR, body, rrpid=rrpid, xid=xid)


@dataclass(frozen=True, slots=True)
class ReceivedError:
    """A refusal. `signer` is None for a bare one, which anybody on the way may have made up: it proves nothing."""

    body: ErrorTBS
    signer: x509.Certificate | None


def read_error(message: KwbpMessage, *, sent: bytes, role: Role, trust: Trust, now: datetime) -> ReceivedError:
    """Error (row 24): K1, K2, and for a signed one K4 to K6; then E1. Not K7: skewed clocks are a reason to send one.

    :param message: from `unwrap(…, expected=[…, CT_ERROR])`.
    :param sent: the message that it answers, as it was sent, wrapper included.
    :param role: role of the party that it was sent to.
    :raises ProtocolError: see `kwbp.checks`; hashMismatch if it is about another message.
    """
    try:
        body, signer = decode(ErrorTBS, message.body), None
    except ProtocolError:
        received = read_signed(ErrorTBS, CT_ERROR, message.body)
        verify_signer(received, role=role, trust=trust, now=now)
        body, signer = received.body, received.signer
    check_header(message, CT_ERROR, rrpid=body.rrpid, xid=body.xid)
    require(body.h_message == sha256(sent), ErrorCode.HASH_MISMATCH, "E1", "error must be about the message sent")
    return ReceivedError(body=body, signer=signer)
