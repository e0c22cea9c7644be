"""CapRes, CapRevRes, AuthRevRes, CredRes and CredRevRes: what the gateway signs, and how the merchant judges it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kwbp import fields
from kwbp.codes import AuthCode, ErrorCode
from kwbp.common import Draft, check_answer, read_signed, require, verify_signer
from kwbp.parties import GatewayIdentity
from kwbp.settling.asking import SentSettlingRequest
from kwbp.settling.coherence import is_referenced
from kwbp.settling.messages import SettlingResTBS
from kwbp.settling.parties import require_signed_by
from kwbp.settling.request import CheckedSettlingRequest
from kwbp.wrapper import KwbpMessage, check_header
from pki.path import Trust
from pki.roles import Role


def build_answer(
    request: CheckedSettlingRequest,
    *,
    gateway: GatewayIdentity,
    auth_code: AuthCode,
    now: datetime,
    rc: str | None = None,
    stan: str | None = None,
    rrn: str | None = None,
    approval: str | None = None,
    settle_date: str | None = None,
) -> Draft[SettlingResTBS]:
    """The answer (rows 19 to 21), to be signed by the gateway. noReply is not final: see `SettlingResTBS`.

    A request that did not pass its checks has no such answer, but an Error.

    :param rc: DE 39. :param stan: DE 11. :param rrn: DE 37. :param approval: DE 38. :param settle_date: DE 15, MMDD.
    :raises ValueError: an approval without `rc`, `stan` and `rrn`, or an authCode that only an order can have.
    """
    asked = request.body
    body = SettlingResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        xid=asked.xid,
        merchant_id=asked.merchant_id,
        h_request=request.digest,
        amount=asked.amount,
        auth_code=auth_code,
        rc=rc,
        stan=stan,
        rrn=rrn,
        approval=approval,
        settle_date=settle_date,
        gw_id=gateway.gateway_id,
        acquirer_id=gateway.acquirer_bin,
        date=fields.to_time(now),
    )
    if not is_referenced(body):
        raise ValueError("an approval carries rc, stan and rrn; piPreviouslyUsed is said of orders only")
    return Draft.of(request.answer_type, body, rrpid=body.rrpid, xid=body.xid)


@dataclass(frozen=True, slots=True)
class CheckedSettlingAnswer:
    """An answer that passed J1 to J6. `signed` is the gateway's SignedData, `digest` its SHA-256 (hAnswer)."""

    body: SettlingResTBS
    signed: bytes
    digest: bytes

    @property
    def approved(self) -> bool:
        """It was done."""
        return self.body.auth_code is AuthCode.APPROVED

    @property
    def open(self) -> bool:
        """Nobody knows yet whether it was done; send the same request again."""
        return self.body.auth_code is AuthCode.NO_REPLY


def check_settling_answer(
    message: KwbpMessage, *, sent: SentSettlingRequest, trust: Trust, now: datetime
) -> CheckedSettlingAnswer:
    """An answer of rows 19 to 21: K1, K2, K4 to K6, then J1 to J6.

    The gateway sends a stored answer again, byte for byte; therefore its age has no limit but the request.

    :param message: from `unwrap(…, expected=[sent.answer_type])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(SettlingResTBS, sent.answer_type, message.body)
    body = received.body
    check_header(message, sent.answer_type, rrpid=body.rrpid, xid=body.xid)
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    require(
        body.h_request == sent.h_request, ErrorCode.HASH_MISMATCH, "J1", "hRequest must be the hash of the own request"
    )
    require(
        (body.rrpid, body.xid, body.merchant_id) == (sent.rrpid, sent.xid, sent.merchant_id),
        ErrorCode.CHALLENGE_MISMATCH,
        "J2",
        "RRPID, XID and merchant must be those of the request",
    )
    require(body.amount == sent.amount, ErrorCode.AMOUNT_MISMATCH, "J3", "amount must be that of the request")
    require(is_referenced(body), ErrorCode.DECODING_FAILURE, "J4", "an approval must carry rc, stan and rrn")
    require_signed_by(received.signer, (body.gw_id, body.acquirer_id), (sent.gw_id, sent.acquirer_bin), check="J5")
    check_answer(received, body.date, asked=sent.sent_at, now=now, check="J6")
    return CheckedSettlingAnswer(body=body, signed=message.body, digest=received.digest)
