"""Row 17: the buyer acknowledges its receipt (V1, V2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.receipt_ack import ReceiptAckTBS, SentReceipt, build_receipt_ack, check_receipt_ack
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.oids import CT_RECEIPT_ACK
from tests.kwbp.forge import changed, refused, signed
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import Credential

SECOND = timedelta(seconds=1)


def acknowledged(
    world: World, purchase: Purchase, *, signer: Credential | None = None, signing_time: Any = None, **changes: Any
) -> bytes:
    """ReceiptAck."""
    draft = build_receipt_ack(SentReceipt.load(purchase.receipt_signed, "M-1"), now=world.now)
    body = changed(draft.body, changes)
    data = signed(signer or world.buyer, CT_RECEIPT_ACK, body, signing_time=signing_time)
    return wrap(CT_RECEIPT_ACK, data, rrpid=body.rrpid, xid=body.xid)


def check(world: World, purchase: Purchase, message: bytes, **changes: Any) -> ReceiptAckTBS:
    arguments: dict[str, Any] = {
        "sent": SentReceipt.load(purchase.receipt_signed, "M-1"),
        "card": world.buyer.certificate,
        "trust": world.trust,
        "now": world.now,
    }
    return check_receipt_ack(unwrap(message, expected=[CT_RECEIPT_ACK]), **(arguments | changes))


def test_the_buyer_has_the_receipt(world: World, purchase: Purchase) -> None:
    ack = check(world, purchase, acknowledged(world, purchase))
    assert (ack.h_receipt, ack.xid) == (der.sha256(purchase.receipt_signed), purchase.sent.xid)


def test_it_may_come_late(world: World, purchase: Purchase) -> None:
    check(world, purchase, acknowledged(world, purchase), now=world.now + timedelta(hours=1))


def test_k7_but_not_before_the_receipt_nor_from_the_future(world: World, purchase: Purchase) -> None:
    early = acknowledged(world, purchase, signing_time=world.now - 121 * SECOND)
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        check(world, purchase, early)
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        check(world, purchase, acknowledged(world, purchase), now=world.now - 121 * SECOND)


def test_v1_another_card(world: World, purchase: Purchase) -> None:
    other = world.pki.cardholder("c2Vjb25kIGNhcmQ")
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "V1"):
        check(world, purchase, acknowledged(world, purchase, signer=other))


def test_k5_a_merchant_does_not_acknowledge_to_itself(world: World, purchase: Purchase) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        check(world, purchase, acknowledged(world, purchase, signer=world.shop))


@pytest.mark.parametrize(
    "changes", [{"h_receipt": bytes(32)}, {"xid": bytes(20)}, {"rrpid": bytes(20)}, {"merchant_id": "M-2"}]
)
def test_v2_another_receipt(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.HASH_MISMATCH, "V2"):
        check(world, purchase, acknowledged(world, purchase, **changes))


def test_k2_header_that_it_contradicts(world: World, purchase: Purchase) -> None:
    body = unwrap(acknowledged(world, purchase), expected=[CT_RECEIPT_ACK]).body
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        check(world, purchase, wrap(CT_RECEIPT_ACK, body, rrpid=bytes(20), xid=purchase.sent.xid))


@pytest.mark.parametrize("changes", [{"version": 1}, {"merchant_id": ""}])
def test_k1_form(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        check(world, purchase, acknowledged(world, purchase, **changes))
    assert caught.value.check == "K1"
