"""Typed signing of rows 19 to 23: what a merchant's and a gateway's key may say (see `kwbp.validators`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from cryptography import x509

from kwbp.parties import gateway_data
from kwbp.settling.coherence import adds_up, closes_in_time, is_net, is_referenced, stands_in_time
from kwbp.settling.forms import ANSWERS, REQUESTS
from kwbp.settling.messages import SettlingReq, SettlingResTBS
from kwbp.settling.statements import BatchAdminReqTBS, BatchAdminResTBS, SettleAdviceTBS
from kwbp.signing import merchant_of, require_role, require_statement
from kwbp.structure import decode
from pki.oids import CT_BATCH_ADMIN_REQ, CT_BATCH_ADMIN_RES, CT_SETTLE_ADVICE
from pki.roles import Role

Validator = Callable[[bytes, x509.Certificate], None]


def _request(structure: type[SettlingReq]) -> Validator:
    """A request of rows 19 to 21 names the merchant of the key."""

    def validate(content: bytes, signer: x509.Certificate) -> None:
        merchant = merchant_of(signer)
        require_statement(
            decode(structure, content).merchant_id == merchant.merchant_id, "request must name the merchant"
        )

    return validate


def validate_settling_answer(content: bytes, signer: x509.Certificate) -> None:
    """SettlingResTBS names the gateway and acquirer of the key; an approval carries the network's references."""
    require_role(signer, Role.GATEWAY_SIGNING)
    answer = decode(SettlingResTBS, content)
    _require_named(answer.gw_id, answer.acquirer_id, signer)
    require_statement(is_referenced(answer), "an approval must carry rc, stan and rrn")


def validate_batch_request(content: bytes, signer: x509.Certificate) -> None:
    """BatchAdminReqTBS names the merchant of the key, and its totals, if it has any, add up."""
    merchant = merchant_of(signer)
    request = decode(BatchAdminReqTBS, content)
    require_statement(request.merchant_id == merchant.merchant_id, "request must name the merchant")
    require_statement(closes_in_time(request), "batch must not end in the future")
    require_statement(request.totals is None or adds_up(request.totals), "net must be the sum of the totals")


def validate_batch_answer(content: bytes, signer: x509.Certificate) -> None:
    """BatchAdminResTBS names the gateway and acquirer of the key, its totals add up, its batch ended after it began."""
    require_role(signer, Role.GATEWAY_SIGNING)
    answer = decode(BatchAdminResTBS, content)
    _require_named(answer.gw_id, answer.acquirer_id, signer)
    require_statement(adds_up(answer.totals), "net must be the sum of the totals")
    require_statement(stands_in_time(answer), "batch must end after it began, and not in the future")


def validate_settle_advice(content: bytes, signer: x509.Certificate) -> None:
    """SettleAdviceTBS names the gateway and acquirer of the key, and pays the sum of its lines."""
    require_role(signer, Role.GATEWAY_SIGNING)
    advice = decode(SettleAdviceTBS, content)
    _require_named(advice.gw_id, advice.acquirer_id, signer)
    require_statement(is_net(advice), "net must be the sum of the lines, fees deducted")


TYPED: Final[Mapping[x509.ObjectIdentifier, Validator]] = MappingProxyType(
    {
        **{content_type: _request(structure) for content_type, structure in REQUESTS.items()},
        **dict.fromkeys(ANSWERS.values(), validate_settling_answer),
        CT_BATCH_ADMIN_REQ: validate_batch_request,
        CT_BATCH_ADMIN_RES: validate_batch_answer,
        CT_SETTLE_ADVICE: validate_settle_advice,
    }
)
"""The validators of rows 19 to 23."""


def _require_named(gw_id: str, acquirer_id: str, signer: x509.Certificate) -> None:
    gateway = gateway_data(signer)
    require_statement(
        (gw_id, acquirer_id) == (gateway.gateway_id, gateway.acquirer_bin),
        "content must name the gateway of the key and its acquirer",
    )
