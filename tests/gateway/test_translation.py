"""An order as ISO 8583: what each data element says, and what a reversal keeps of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.order import Order
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.translation import order_request, read_answer, reversal_request, reversible_fields, unclaimed
from shetab.dialect import Dialect
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.types import Cvv2, Expiry, Pan
from tests.gateway.conftest import ACQUIRER, NOW, SHOP, new_order, run
from tests.support.iso8583_messages import PAN, response_fields
from tests.support.scripted_switch import DIALECT

CODES = ResponseCodes.load()


class Card:
    pan = Pan(PAN)
    expiry = Expiry("0712")
    cvv2: Cvv2 | None = Cvv2("123")
    pin_block: bytes | None = bytes.fromhex("F92D1CFCC2103E10")
    pin_key_index: int = 1
    mac_key_index: int = 1
    pin_block_format: int = 3


class CardWithoutSecrets(Card):
    cvv2 = None
    pin_block = None


@pytest.fixture
def order(book: OrderStore) -> Order:
    async def verified() -> Order:
        key = (await book.receive(new_order(), NOW)).key
        return await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="", now=NOW)

    return run(verified())


def test_a_sale_says_what_the_dialect_asks_for(order: Order) -> None:
    request = order_request(DIALECT, order, SHOP, Card(), NOW)
    DIALECT.check(request)
    assert dict(request.fields) == {
        2: PAN,
        3: "000000",
        4: "000000150000",
        7: "0321120000",
        11: "000001",
        12: "153000",
        13: "0321",
        14: "0712",
        17: "0321",
        18: "5942",
        19: "364",
        22: "010",
        25: "59",
        26: "12",
        32: ACQUIRER,
        37: "608015000001",
        41: "T0000001",
        42: "M-1            ",
        43: "Bookshop Tehran                         ",
        48: "  012300",
        49: "364",
        52: "F92D1CFCC2103E10",
        53: "0301010000000000",
        62: f"KWBP2 {order.xid.hex()}",
        100: "603799",
    }


def test_without_pin_and_cvv2_their_fields_are_absent_or_blank(order: Order) -> None:
    request = order_request(DIALECT, order, SHOP, CardWithoutSecrets(), NOW)
    DIALECT.check(request)
    assert request[48] == "      00"
    assert not {52, 53} & request.fields.keys()


def test_what_is_stored_for_a_reversal_holds_nothing_of_the_card(order: Order) -> None:
    stored = reversible_fields(DIALECT, order_request(DIALECT, order, SHOP, Card(), NOW))
    assert stored.keys() == {3, 4, 7, 11, 12, 13, 17, 32, 37, 41, 42, 49, 62, 100}
    assert not {PAN, "0712", "  012300", "F92D1CFCC2103E10"} & set(stored.values())


@pytest.mark.parametrize(("attempts", "mti"), [(0, "0420"), (1, "0421"), (7, "0421")])
def test_a_reversal_names_its_original(order: Order, attempts: int, mti: str) -> None:
    request = order_request(DIALECT, order, SHOP, Card(), NOW)
    fields = {str(field): value for field, value in reversible_fields(DIALECT, request).items()}
    queued = replace(
        order,
        state=OrderState.REV_QUEUED,
        sent_fields=fields,
        reversal_stan="000002",
        reversal_attempts=attempts,
    )
    reversal = reversal_request(queued, Pan(PAN), NOW)
    DIALECT.check(reversal)
    assert (reversal.mti, reversal[11], reversal[37], reversal[2]) == (mti, "000002", "608015000001", PAN)
    assert reversal[90] == "0200" + "000001" + "0321120000" + ACQUIRER.rjust(11, "0") + "0" * 11


def test_an_order_without_numbers_or_without_original_makes_no_message(order: Order) -> None:
    with pytest.raises(ValueError, match="no trace numbers"):
        order_request(DIALECT, replace(order, stan=None), SHOP, Card(), NOW)
    with pytest.raises(ValueError, match="not queued"):
        reversal_request(order, Pan(PAN), NOW)
    with pytest.raises(ValueError, match="not sent"):
        reversal_request(replace(order, reversal_stan="000002"), Pan(PAN), NOW)


@pytest.mark.parametrize(
    ("rc", "outcome", "auth_code", "approval"),
    [
        ("00", "approved", 0, "A12345"),
        ("51", "declined", 2, None),
        ("55", "declined", 2, None),
        ("54", "declined", 6, None),
        ("13", "declined", 5, None),
        ("91", "declined", 3, None),
        ("68", "unknown", 3, None),
        ("94", "unknown", 3, None),
        ("ZZ", "unknown", 3, None),
    ],
)
def test_an_answer_is_read_by_the_table(rc: str, outcome: str, auth_code: int, approval: str | None) -> None:
    answer = read_answer(CODES, Message("0210", {**response_fields(), 39: rc}))
    assert (answer.rc, answer.outcome, answer.auth_code, answer.approval) == (rc, outcome, auth_code, approval)
    assert answer.settle_date == "1122"


@pytest.mark.parametrize(("rc", "told"), [("51", "51"), ("68", "68"), ("ZZ", None), ("z9", None)])
def test_a_code_of_no_table_is_kept_and_not_told(rc: str, told: str | None) -> None:
    """An AuthRes could not even carry every text that DE 39 can."""
    answer = read_answer(CODES, Message("0210", {**response_fields(), 39: rc}))
    assert (answer.rc, answer.told_rc) == (rc, told)


def test_an_unclaimed_answer_is_filed_without_its_card() -> None:
    filed = unclaimed(CODES, Message("0210", response_fields()))
    values: list[Any] = [getattr(filed, name) for name in filed.__slots__]
    assert PAN not in values
    assert (filed.stan, filed.terminal_id, filed.approved) == ("000042", "T0000001", True)


@pytest.mark.parametrize(
    ("dialect", "told"),
    [("shetab87_ascii", "M-1".ljust(40)), ("shetab93_binary", "کتاب‌فروشی 7")],
)
def test_a_persian_name_is_told_where_the_dialect_has_its_letters(order: Order, dialect: str, told: str) -> None:
    shop = replace(SHOP, name="كتاب‌فروشي ۷")
    assert order_request(Dialect.load(dialect), order, shop, Card(), NOW)[43] == told
