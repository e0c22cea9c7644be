"""K1: the form of every field that the ASN.1 types alone do not decide."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from kwbp.codes import AuthCode, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.messages import MAX_LINES, AuthResTBS, BasketLine, OrderDetails, OrderLine, PISealed
from kwbp.money import Money
from kwbp.structure import decode, encode
from pki import der
from tests.kwbp.forge import changed
from tests.kwbp.world import Purchase, lines

RLO = "\u202e"
HALF_A_SECOND = asn1.GeneralizedTime(datetime(2026, 3, 21, 12, 0, 0, 500_000, tzinfo=UTC))
DOLLARS = Money(currency=840, amount=1, exp=0)
TOMAN = Money(currency=364, amount=325_000, exp=1)
NOTHING = Money.rial(0)

FORM: dict[str, dict[str, list[Any]]] = {
    "request": {
        "lid_c": [b"", bytes(21)],
        "brand_id": ["", "Sheta‌b", "x" * 33, "شتاب"],
        "bin": ["60377", "603770100", "۶۰۳۷۷۰", "60377O"],
        "ship_to": ["", "Tehran" + RLO, "x" * 501, "Tehran\n\nIran"],
        "language": ["", "FA", "farsi", "fa-ir"],
        "date": [HALF_A_SECOND],
    },
    "invoice": {
        "lid_c": [b"", bytes(21)],
        "lid_m": ["", "x" * 21, "سفارش شماره یک", " x"],
        "merchant_id": ["", "x" * 31, "M 1", "M-1\n", "-M"],
        "acquirer_bin": ["60379", "603799603", "60379۹"],
        "gw_id": ["", "GW/1"],
        "amount": [NOTHING, DOLLARS, TOMAN, Money.rial(10**12), Money.rial(-1)],
        "terms": ["", "x" * 4001, "terms" + RLO, "a\tb"],
        "deliver_by": [HALF_A_SECOND],
        "issued_at": [HALF_A_SECOND],
        "not_after": [HALF_A_SECOND],
        "bci_number": [-1],
    },
    "oi": {
        "lid_c": [b"", bytes(21)],
        "lid_m": [""],
        "amount": [NOTHING, DOLLARS, TOMAN],
        "merchant_id": [""],
        "brand_id": [""],
        "bin": ["60377"],
        "date": [HALF_A_SECOND],
    },
    "dual": {
        "lid_m": [""],
        "merchant_id": [""],
        "gw_id": [""],
        "amount": [NOTHING, DOLLARS, TOMAN],
        "not_after": [HALF_A_SECOND],
    },
    "head": {
        "lid_m": [""],
        "merchant_id": [""],
        "gw_id": [""],
        "amount": [NOTHING, DOLLARS, TOMAN],
        "not_after": [HALF_A_SECOND],
    },
    "auth_req": {
        "merchant_id": [""],
        "terminal_id": ["", "123456789", "T 1"],
        "amount": [NOTHING, DOLLARS, TOMAN],
        "date": [HALF_A_SECOND],
        "attempt": [0, 100],
    },
    "auth_res": {
        "merchant_id": [""],
        "amount": [NOTHING, DOLLARS, TOMAN],
        "rc": ["", "0", "0000", "۰۰"],
        "stan": ["12345", "1234567"],
        "rrn": ["1" * 11, "1" * 13, "12345678901 "],
        "approval": ["12345", "1234567"],
        "masked_pan": ["6037701000000007", "603770*****0007", "603770**********0007"],
        "settle_date": ["1301", "0132", "121", "20260321"],
        "gw_id": [""],
        "acquirer_id": ["1"],
        "date": [HALF_A_SECOND],
        "ack_by": [HALF_A_SECOND],
        "cap_token": [b"", bytes(4097)],
    },
    "auth_ack": {"merchant_id": [""], "date": [HALF_A_SECOND]},
    "receipt": {"reason": ["", "x" * 501, "no" + RLO, "two\nlines"], "date": [HALF_A_SECOND]},
}


def _body(purchase: Purchase, name: str) -> Any:
    return {
        "request": purchase.request.body,
        "invoice": purchase.invoice.invoice.body,
        "oi": purchase.order.oi,
        "dual": purchase.order.dual_signature.body,
        "head": decode(PISealed, purchase.plaintext).pi_head,
        "auth_req": purchase.auth_req.body,
        "auth_res": purchase.auth_res.body,
        "auth_ack": purchase.auth_ack.body,
        "receipt": purchase.receipt.body,
    }[name]


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [(message, field, value) for message, rules in FORM.items() for field, values in rules.items() for value in values],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_field_out_of_form(purchase: Purchase, message: str, field: str, value: Any) -> None:
    body = changed(_body(purchase, message), {field: value})
    expected = ErrorCode.AMOUNT_MISMATCH if isinstance(value, Money) else ErrorCode.DECODING_FAILURE
    for attempt in (lambda: decode(type(body), der.encode(body)), lambda: encode(body)):
        with pytest.raises(ProtocolError) as caught:
            attempt()
        assert (caught.value.code, caught.value.check) == (expected, "K1")


@pytest.mark.parametrize("size", [0, 19, 21])
def test_xid_has_twenty_bytes(purchase: Purchase, size: int) -> None:
    with pytest.raises(ProtocolError):
        encode(changed(purchase.auth_ack.body, {"xid": bytes(size)}))


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001])
def test_quantity_out_of_range(quantity: int) -> None:
    for line in (
        BasketLine(sku="pen", quantity=quantity),
        OrderLine(sku="pen", name="Pen", quantity=quantity, unit_price=1, amount=1),
    ):
        with pytest.raises(ProtocolError, match="quantity"):
            line.validate()


@pytest.mark.parametrize(
    "changes",
    [
        {"sku": ""},
        {"sku": "x" * 65},
        {"sku": "کتاب"},
        {"name": ""},
        {"name": "Pen" + RLO},
        {"unit_price": -1},
        {"amount": 10**12},
    ],
)
def test_order_line_out_of_form(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        changed(lines()[1], changes).validate()


def test_order_ships_nowhere_or_to_one_address(purchase: Purchase) -> None:
    order = purchase.checked_invoice.order
    assert decode(OrderDetails, encode(changed(order, {"ship_to": None}))).ship_to is None
    with pytest.raises(ProtocolError, match="shipTo"):
        encode(changed(order, {"ship_to": "a\u200bb"}))


@pytest.mark.parametrize("count", [0, MAX_LINES + 1])
def test_number_of_lines(purchase: Purchase, count: int) -> None:
    with pytest.raises(ProtocolError):
        encode(changed(purchase.checked_invoice.order, {"lines": [lines()[1]] * count}))


def test_code_that_does_not_exist_does_not_decode(purchase: Purchase) -> None:
    honest = encode(purchase.auth_res.body)
    at = honest.index(b"\x02\x01\x00\x80\x02")  # authCode approved, then rc [0]
    with pytest.raises(ProtocolError) as caught:
        decode(AuthResTBS, honest[: at + 2] + b"\x63" + honest[at + 3 :])
    assert caught.value.code is ErrorCode.DECODING_FAILURE
    declined = decode(AuthResTBS, honest[: at + 2] + b"\x02" + honest[at + 3 :])
    assert declined.auth_code is AuthCode.DECLINED


def test_refusal_names_the_field_and_not_its_value(purchase: Purchase) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(changed(purchase.auth_ack.body, {"merchant_id": "<script>"}))
    assert "merchantID" in caught.value.detail
    assert "script" not in str(caught.value)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001  # bounds are naive by hypothesis' contract
def test_time_on_the_wire_is_utc_in_whole_seconds(instant: datetime) -> None:
    time = to_time(instant)
    assert time.as_datetime() == instant.replace(microsecond=0)
    assert der.encode(time)[2:].endswith(b"Z")
    assert len(der.encode(time)) == 2 + len("20260321120000Z")
