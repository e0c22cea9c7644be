"""T-3: one byte of a message changed anywhere. It is refused, or it still makes the very same statement.

The second can happen: a certificate that came along, and that the receiver knows anyway, may be damaged. What is
signed, and whose certificate signed it, stays the same then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwbp.errors import ProtocolError
from kwbp.gateway import SentAuthRes
from kwbp.structure import encode
from tests.kwbp import test_contract, test_receipt_ack
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import PkiFactory

Statement = tuple[Any, ...]
Reader = Callable[[bytes], Statement]

_WORLD = World(PkiFactory())
_PURCHASE = _WORLD.purchase()


def _read_request(message: bytes) -> Statement:
    checked = _WORLD.check_request(message)
    return encode(checked.body), checked.card_cert_hash


def _read_invoice(message: bytes) -> Statement:
    checked = _WORLD.check_invoice(message, _PURCHASE.request)
    return encode(checked.invoice), checked.order_details, checked.merchant, checked.gateway


def _read_order(message: bytes) -> Statement:
    checked = _WORLD.check_purchase(message, _PURCHASE.issued)
    return encode(checked.oi), encode(checked.dual), checked.pi_envelope, checked.card_certificate


def _read_auth_req(message: bytes) -> Statement:
    verified = _WORLD.check_auth_req(message)
    return (
        encode(verified.auth_req),
        encode(verified.invoice),
        encode(verified.dual),
        verified.envelope.der,
        verified.merchant,
        verified.cardholder_certificate,
    )


def _read_auth_res(message: bytes) -> Statement:
    return (encode(_WORLD.check_answer(message, _PURCHASE.sent).body),)


def _read_ack(message: bytes) -> Statement:
    return (encode(_WORLD.check_ack(message, SentAuthRes.load(_PURCHASE.auth_res_signed))),)


def _read_receipt(message: bytes) -> Statement:
    checked = _WORLD.check_receipt(message, _PURCHASE.record)
    return encode(checked.receipt), encode(checked.auth_res), checked.paid


def _read_receipt_ack(message: bytes) -> Statement:
    return (encode(test_receipt_ack.check(_WORLD, _PURCHASE, message)),)


def _read_contract(contract: bytes) -> Statement:
    found = test_contract.check(_WORLD, contract)
    return encode(found.invoice), encode(found.link), found.merchant, found.buyer


def _messages(purchase: Purchase) -> dict[str, tuple[bytes, Reader]]:
    return {
        "InvoiceReq": (purchase.request.message(purchase.request_signed), _read_request),
        "Invoice": (purchase.invoice_message, _read_invoice),
        "PReq": (purchase.preq_message, _read_order),
        "AuthReq": (purchase.auth_req_message, _read_auth_req),
        "AuthRes": (purchase.auth_res.message(purchase.auth_res_signed), _read_auth_res),
        "AuthAck": (purchase.auth_ack.message(purchase.auth_ack_signed), _read_ack),
        "Receipt": (purchase.receipt.message(purchase.receipt_signed), _read_receipt),
        "ReceiptAck": (test_receipt_ack.acknowledged(_WORLD, purchase), _read_receipt_ack),
        "order with two signatures": (test_contract.contract(_WORLD, purchase), _read_contract),
    }


MESSAGES = _messages(_PURCHASE)
HONEST = {name: read(message) for name, (message, read) in MESSAGES.items()}


def _same_or_refused(message: bytes, read: Reader, honest: Statement) -> None:
    try:
        statement = read(message)
    except ProtocolError:
        return
    assert statement == honest


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_byte(name: str, data: st.DataObject) -> None:
    message, read = MESSAGES[name]
    position = data.draw(st.integers(0, len(message) - 1))
    mask = data.draw(st.integers(1, 255))
    twin = message[:position] + bytes([message[position] ^ mask]) + message[position + 1 :]
    _same_or_refused(twin, read, HONEST[name])


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_bytes_cut_out(name: str, data: st.DataObject) -> None:
    message, read = MESSAGES[name]
    start = data.draw(st.integers(0, len(message) - 1))
    end = data.draw(st.integers(start + 1, len(message)))
    with pytest.raises(ProtocolError):
        read(message[:start] + message[end:])


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=50, deadline=None)
@given(extra=st.binary(min_size=1, max_size=8), data=st.data())
def test_bytes_put_in(name: str, extra: bytes, data: st.DataObject) -> None:
    message, read = MESSAGES[name]
    position = data.draw(st.integers(0, len(message)))
    with pytest.raises(ProtocolError):
        read(message[:position] + extra + message[position:])


@pytest.mark.slow
@pytest.mark.parametrize("name", MESSAGES)
def test_every_byte_once(name: str) -> None:
    message, read = MESSAGES[name]
    for position in range(len(message)):
        twin = message[:position] + bytes([message[position] ^ 0x01]) + message[position + 1 :]
        _same_or_refused(twin, read, HONEST[name])
