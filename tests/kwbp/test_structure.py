"""K1: one value, one encoding, one size limit, for every structure of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.fields import VERSION
from kwbp.messages import (
    AuthAckTBS,
    AuthReqTBS,
    AuthResTBS,
    DualSigTBS,
    ErrorTBS,
    InvoiceMessage,
    InvoiceReqTBS,
    InvoiceTBS,
    OIData,
    OrderDetails,
    PIData,
    PIHead,
    PISealed,
    PReq,
    ReceiptTBS,
)
from kwbp.structure import SIZE_LIMIT, Structure, decode, encode
from kwbp.wrapper import KwbpMessage, unwrap
from pki import der
from pki.oids import MT_INVOICE, MT_PREQ
from tests.kwbp.forge import changed, refused
from tests.kwbp.world import Purchase, World
from tests.support.der_surgery import indefinite, long_length, parse

STRUCTURES: tuple[type[Structure], ...] = (
    InvoiceReqTBS, InvoiceMessage, InvoiceTBS, OrderDetails, PReq, OIData, DualSigTBS, PISealed, PIData, PIHead,
    AuthReqTBS, AuthResTBS, AuthAckTBS, ReceiptTBS, ErrorTBS, KwbpMessage,
)  # fmt: skip
VERSIONED = tuple(cls for cls in STRUCTURES if "version" in cls.__annotations__)


@pytest.fixture(scope="session")
def samples(world: World, purchase: Purchase) -> dict[type[Structure], bytes]:
    """An honest encoding of each structure."""
    sealed = decode(PISealed, purchase.plaintext)
    refusal = ProtocolError(ErrorCode.CLOCK_SKEW, "K7", "x", time_hint=world.now)
    error = build_error(refusal, refused=purchase.preq_message, now=world.now)
    return {
        InvoiceReqTBS: purchase.request.content,
        InvoiceMessage: unwrap(purchase.invoice_message, expected=[MT_INVOICE]).body,
        InvoiceTBS: purchase.invoice.invoice.content,
        OrderDetails: purchase.invoice.order_details,
        PReq: unwrap(purchase.preq_message, expected=[MT_PREQ]).body,
        OIData: purchase.order.oi_data,
        DualSigTBS: purchase.order.dual_signature.content,
        PISealed: purchase.plaintext,
        PIData: encode(PIData(pi_head=sealed.pi_head, pan_data=sealed.pan_data)),
        PIHead: encode(sealed.pi_head),
        AuthReqTBS: purchase.auth_req.content,
        AuthResTBS: purchase.auth_res.content,
        AuthAckTBS: purchase.auth_ack.content,
        ReceiptTBS: purchase.receipt.content,
        ErrorTBS: error.content,
        KwbpMessage: purchase.preq_message,
    }


def _with_one_more_member(data: bytes) -> bytes:
    tree = parse(data)
    tree.children.append(parse(b"\x05\x00"))
    return tree.encode()


def _without_last_member(data: bytes) -> bytes:
    tree = parse(data)
    tree.children.pop()
    return tree.encode()


def _first_two_members_swapped(data: bytes) -> bytes:
    tree = parse(data)
    tree.children[:2] = reversed(tree.children[:2])
    return tree.encode()


TWINS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "trailing byte": lambda data: data + b"\x00",
    "twice": lambda data: data * 2,
    "long length (BER)": long_length,
    "indefinite length (BER)": indefinite,
    "SET instead of SEQUENCE": lambda data: b"\x31" + data[1:],
    "one more member": _with_one_more_member,
    "last member missing": _without_last_member,
    "members in another order": _first_two_members_swapped,
}


@pytest.mark.parametrize("cls", STRUCTURES, ids=lambda cls: cls.__name__)
def test_honest_encoding_is_read_and_written_again(samples: dict[type[Structure], bytes], cls: type[Structure]) -> None:
    assert encode(decode(cls, samples[cls])) == samples[cls]


# The first two members have one type: the twin is another value, in proper form.
_NO_SUCH_TWIN = {(InvoiceMessage, "members in another order"), (ErrorTBS, "members in another order")}


@pytest.mark.parametrize(
    ("cls", "twin"),
    [(cls, twin) for cls in STRUCTURES for twin in TWINS if (cls, twin) not in _NO_SUCH_TWIN],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_hostile_encoding(samples: dict[type[Structure], bytes], cls: type[Structure], twin: str) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        decode(cls, TWINS[twin](samples[cls]))


@pytest.mark.parametrize("cls", STRUCTURES, ids=lambda cls: cls.__name__)
def test_more_than_the_limit(cls: type[Structure]) -> None:
    with refused(ErrorCode.MESSAGE_TOO_BIG, "K1"):
        decode(cls, bytes(SIZE_LIMIT + 1))


@pytest.mark.parametrize("cls", VERSIONED, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("version", "code"),
    [(VERSION - 1, ErrorCode.VERSION_TOO_OLD), (-1, ErrorCode.VERSION_TOO_OLD), (3, ErrorCode.VERSION_TOO_NEW)],
)
def test_other_version(
    samples: dict[type[Structure], bytes], cls: type[Structure], version: int, code: ErrorCode
) -> None:
    body = changed(decode(cls, samples[cls]), {"version": version})
    with refused(code, "K1"):
        decode(cls, der.encode(body))


def test_what_would_be_refused_is_not_written(purchase: Purchase) -> None:
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        encode(changed(purchase.auth_ack.body, {"xid": bytes(19)}))


def test_what_would_be_too_big_is_not_written(purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_TOO_BIG, "K1"):
        encode(changed(purchase.auth_req.body, {"pi_envelope": bytes(SIZE_LIMIT)}))


def test_structure_says_how_it_is_validated() -> None:
    with pytest.raises(NotImplementedError):
        Structure().validate()


def _flat(value: Any) -> set[str]:
    return set(vars(value))


def test_no_message_to_the_gateway_has_room_for_order_lines(purchase: Purchase) -> None:
    assert not {"lines", "basket", "ship_to"} & _flat(purchase.auth_req.body)
