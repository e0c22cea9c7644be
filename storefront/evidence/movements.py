"""What moved the money after the answer: the merchant's requests and the gateway's answers, in pairs, in their order.

A bundle holds each pair in a folder of its own, `money-01` and so on: `request.p7s`, `answer.p7s`, `time.txt` (seconds:
when the answer was given) and the lists of revoked certificates in force then. Each pair is judged as of its own time:
between a purchase and its refund certificates are renewed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from kwbp.codes import AuthCode, SaleKind
from kwbp.common import Received, instant, read_signed, verify_signature
from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceTBS
from kwbp.parties import MerchantIdentity, gateway_data
from kwbp.settling import ANSWERS, REQUESTS, SettlingReq, SettlingResTBS, Standing
from pki.crl import CrlSet
from pki.errors import PkiError
from pki.path import Trust, validate_path
from pki.roles import Role
from runtime.language import Message

FOLDER: Final = re.compile(r"money-(?!00)[0-9]{2}")
MOST: Final = 40
_TIME: Final = re.compile(rb"([0-9]{1,11})\n")


@dataclass(frozen=True, slots=True)
class Movement:
    """One pair. `request` and `answer` are None if one is not in form, or the answer not of the request's kind."""

    name: str
    request_der: bytes
    answer_der: bytes
    at: datetime
    crls: CrlSet
    request: Received[SettlingReq] | None
    answer: Received[SettlingResTBS] | None

    @classmethod
    def of(cls, name: str, request: bytes, answer: bytes, time: bytes, crls: CrlSet) -> Movement | None:
        """Read a pair; None if the time is none."""
        at = _TIME.fullmatch(time)
        if at is None:
            return None
        read = read_pair(request, answer)
        moment = datetime.fromtimestamp(int(at[1]), UTC)
        return cls(name, request, answer, moment, crls, *(read or (None, None)))


def read_pair(request: bytes, answer: bytes) -> tuple[Received[SettlingReq], Received[SettlingResTBS]] | None:
    """A request and its answer (SignedData), by the kind that the request says it is; None if they are no pair."""
    for content_type, structure in REQUESTS.items():
        try:
            asked: Received[Any] = read_signed(structure, content_type, request)
            return asked, read_signed(SettlingResTBS, ANSWERS[content_type], answer)
        except ProtocolError:
            continue
    return None


def faults_of(
    movement: Movement,
    earlier: Mapping[bytes, Movement],
    *,
    xid: bytes,
    h_answer: bytes | None,
    invoice: InvoiceTBS | None,
    root: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
) -> list[Message]:
    """Why a pair proves nothing; empty if merchant and gateway signed it, and it follows what it names.

    :param earlier: the pairs before it, by the hash of their answers. :param h_answer: hash of the gateway's answer.
    :param chain: the bundle's authorities; the ones inside a message lead to the root as well, as in every message.
    """
    request, answer = movement.request, movement.answer
    if request is None or answer is None:
        return [Message("{pair}: it is no request with its answer, in DER", pair=movement.name)]
    told = []
    inside, beside = Trust((root,), (), movement.crls), Trust((root,), chain, movement.crls)
    signed: tuple[tuple[Received[Any], Role], ...] = ((request, Role.MERCHANT), (answer, Role.GATEWAY_SIGNING))
    for one, role in signed:
        try:
            verify_signature(one)
            validate_path(one.signer, one.signed.certificates, trust=inside, now=movement.at, roles=(role,))
            validate_path(one.signer, trust=beside, now=movement.at, roles=(role,))
        except (ProtocolError, PkiError):
            told.append(Message("{pair}: it is not signed by whom it should be", pair=movement.name))
    asked, said = request.body, answer.body
    fits = (
        asked.xid == said.xid == xid
        and said.h_request == request.digest
        and said.amount == asked.amount
        and instant(said.date) == movement.at
        and asked.h_answer in {h_answer, *earlier}
    )
    if not fits:
        told.append(Message("{pair}: request and answer do not fit each other, or this purchase", pair=movement.name))
    if invoice is not None and not _is_between(request, answer, invoice):
        told.append(Message("{pair}: it is of another merchant or gateway", pair=movement.name))
    return told


def _is_between(request: Received[SettlingReq], answer: Received[SettlingResTBS], invoice: InvoiceTBS) -> bool:
    try:
        merchant, gateway = MerchantIdentity.of(request.signer), gateway_data(answer.signer)
    except ProtocolError:
        return False
    return (merchant.merchant_id, gateway.gateway_id, gateway.acquirer_bin) == (
        invoice.merchant_id,
        invoice.gw_id,
        invoice.acquirer_bin,
    )


def standing_after(auth_res: bytes, sale_kind: SaleKind, movements: tuple[Movement, ...]) -> Standing | None:
    """How the money stands after all pairs; None if they cannot follow each other, or nothing was approved."""
    try:
        standing = Standing.of(auth_res, sale=sale_kind is SaleKind.SALE, acknowledged=True)
        for each in movements:
            if each.request is None or each.answer is None:
                return None
            body = each.request.body
            approved = each.answer.body.auth_code is AuthCode.APPROVED
            if approved and body.amount.amount not in standing.bounds(body):
                return None
            standing = standing.concluded(body, each.answer.digest if approved else None)
    except (ValueError, ProtocolError):
        return None
    return standing
