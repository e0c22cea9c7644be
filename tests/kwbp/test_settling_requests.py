"""Rows 19 to 21: what a merchant may ask after the authorisation (H1 to H9), one thing wrong in each hostile twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from kwbp.codes import AuthCode, ErrorCode, ReversalReason
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.gateway import EnrolledMerchant
from kwbp.money import Money
from kwbp.settling import (
    REQUESTS,
    Capture,
    Followed,
    Standing,
    check_request,
    is_repeated,
    read_request,
)
from kwbp.wrapper import unwrap, wrap
from pki import der
from pki.oids import CT_AUTH_REQ, CT_CAP_REQ, CT_CRED_REQ
from tests.kwbp.forge import forged, refused
from tests.kwbp.settling import SECOND, TOKEN, Settling, auth_res_of
from tests.kwbp.world import TOTAL

H = ErrorCode.HASH_MISMATCH
AMOUNT = ErrorCode.AMOUNT_MISMATCH


# --- what is possible -------------------------------------------------------------------------------------------------


def test_an_authorisation_is_captured_in_parts_and_each_part_credited(settling: Settling) -> None:
    standing = settling.standing(settling.held)
    standing, first = settling.done(settling.capture(2_000_000), standing)
    standing, second = settling.done(settling.capture(1_250_000), standing)
    assert (standing.captured, standing.refunded) == (TOTAL, 0)
    standing, credit = settling.done(settling.credit(first, 2_000_000), standing)
    standing, _ = settling.done(settling.credit(second, 1), standing)
    assert (standing.authorised, standing.captured, standing.refunded) == (TOTAL, TOTAL, 2_000_001)
    standing, _ = settling.done(settling.credit_reversal(credit), standing)
    standing, _ = settling.done(settling.capture_reversal(first), standing)
    assert (standing.captured, standing.refunded) == (1_250_000, 1)
    standing, _ = settling.done(settling.auth_reversal(settling.held, 1_250_000), standing)
    assert (standing.authorised, standing.captured, standing.refunded) == (1_250_000, 1_250_000, 1)


def test_a_sale_is_credited_and_reversed_without_a_capture_of_its_own(settling: Settling) -> None:
    sale = settling.authorisation(settling.sale)
    standing, _ = settling.done(settling.credit(sale, 1_000_000), settling.standing(settling.sale))
    assert standing.refunded == 1_000_000
    standing, _ = settling.done(settling.auth_reversal(settling.sale, 1_500_000), standing)
    assert (standing.authorised, standing.captured, standing.refunded) == (1_500_000, 1_500_000, 1_000_000)
    reversed_, _ = settling.done(settling.auth_reversal(settling.sale, 0), settling.standing(settling.sale))
    assert (reversed_.authorised, reversed_.captured, reversed_.sale) == (0, 0, None)


def test_what_is_settled_is_credited(settling: Settling) -> None:
    sale = settling.sale
    h_auth_res = settling.authorisation(sale).h_answer
    settled = settling.standing(sale, captures=(Capture(h_auth_res, TOTAL, settled=True),))
    standing, credit = settling.done(settling.credit(settling.authorisation(sale), TOTAL), settled)
    assert standing.refunded == TOTAL
    checked = settling.check(settling.message(settling.credit_reversal(credit)), standing)
    assert checked.followed == standing.credits[0]


# --- who asks (H1 to H4) ----------------------------------------------------------------------------------------------

OTHER = EnrolledMerchant(merchant_id="M-2", terminal_ids=frozenset(), active=True)
LEFT = EnrolledMerchant(merchant_id="M-1", terminal_ids=frozenset(), active=False)


@pytest.mark.parametrize(
    "changes", [{"merchant": None}, {"merchant": LEFT}, {"merchant": OTHER}, {"tls_merchant_id": "M-2"}]
)
def test_h1_requester_is_an_active_merchant_and_the_tls_peer(settling: Settling, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "H1"):
        settling.check(settling.message(settling.capture()), settling.standing(settling.held), **changes)


def test_h1_requester_is_the_signer(settling: Settling) -> None:
    message = settling.message(settling.capture(), signer=settling.world.other_shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "H1"):
        settling.check(message, settling.standing(settling.held))


def test_h2_the_order_is_the_merchants(settling: Settling) -> None:
    message = settling.message(settling.capture())
    for standing in (
        None,
        settling.standing(settling.sale),
        settling.standing(settling.held, merchant_id="M-2"),
    ):
        with refused(ErrorCode.UNKNOWN_XID, "H2"):
            settling.check(message, standing)


def test_h3_the_same_bytes_again_are_a_repeat_and_never_judged_anew(settling: Settling) -> None:
    draft = settling.capture()
    request = settling.receive(settling.message(draft))
    standing = settling.standing(settling.held).taken_in(draft.rrpid, request.digest)
    assert is_repeated(request, standing)
    world = settling.world
    with refused(ErrorCode.BAD_MESSAGE_HEADER, "H3"):
        check_request(request, standing, gateway=world.gateway_identity, trust=world.trust, now=world.now)
    done = standing.concluded(draft.body, bytes(32))
    assert is_repeated(request, done)
    assert done.captured == TOTAL
    assert is_repeated(request, standing.concluded(draft.body, None))


def test_h3_another_request_under_the_same_rrpid(settling: Settling) -> None:
    draft = settling.capture(1000)
    standing = settling.standing(settling.held).taken_in(draft.rrpid, settling.receive(settling.message(draft)).digest)
    standing = standing.concluded(draft.body, bytes(32))
    with refused(ErrorCode.BAD_MESSAGE_HEADER, "H3"):
        settling.check(settling.message(draft, amount=Money.rial(1001)), standing)


def test_h3_a_request_under_the_rrpid_of_the_order(settling: Settling) -> None:
    draft = settling.capture(rrpid=settling.held.auth_req.rrpid)
    with refused(ErrorCode.BAD_MESSAGE_HEADER, "H3"):
        settling.check(settling.message(draft), settling.standing(settling.held))


def test_h4_the_request_is_signed_by_the_merchant_that_it_names(settling: Settling) -> None:
    world = settling.world
    request = settling.receive(settling.message(settling.capture(), signer=world.other_shop))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "H4"):
        check_request(
            request,
            settling.standing(settling.held),
            gateway=world.gateway_identity,
            trust=world.trust,
            now=world.now,
        )


def test_h4_a_request_to_another_gateway(settling: Settling) -> None:
    with refused(ErrorCode.GATEWAY_MISMATCH, "H4"):
        settling.check(settling.message(settling.capture(), gw_id="GW-2"), settling.standing(settling.held))


def test_h4_a_merchant_of_another_acquirer(settling: Settling) -> None:
    elsewhere = settling.world.pki.merchant("M-1", acquirer_bin="622106")
    with refused(ErrorCode.GATEWAY_MISMATCH, "H4"):
        settling.check(settling.message(settling.capture(), signer=elsewhere), settling.standing(settling.held))


def test_k5_only_a_merchant_asks(settling: Settling) -> None:
    twin = settling.world.pki.merchant("M-1", issuer=settling.world.pki.cardholder_ca)
    with pytest.raises(ProtocolError) as caught:
        settling.check(settling.message(settling.capture(), signer=twin), settling.standing(settling.held))
    assert caught.value.check == "K5"


def test_k6_a_request_that_somebody_else_signed(settling: Settling) -> None:
    draft, world = settling.capture(), settling.world
    data = forged(CT_CAP_REQ, draft.content, named=world.shop, signed_by=world.other_shop)
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        settling.check(draft.message(data), settling.standing(settling.held))


def test_k7_a_request_of_long_ago(settling: Settling) -> None:
    message = settling.message(settling.capture())
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        settling.check(message, settling.standing(settling.held), now=settling.world.now + 121 * SECOND)


def test_k2_a_header_that_the_request_contradicts(settling: Settling) -> None:
    draft = settling.capture()
    for header in ({"xid": bytes(20)}, {"rrpid": bytes(20)}):
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            settling.receive(settling.message(draft, header=header))


def test_k4_a_capture_is_no_credit(settling: Settling) -> None:
    """The two requests may hold the same fields; what they are stands in the signed content type."""
    draft = settling.credit(settling.authorisation(settling.sale), 1)
    data = settling.world.shop.sign(CT_CRED_REQ, draft.content)
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K4"):
        settling.receive(wrap(CT_CAP_REQ, data, rrpid=draft.rrpid, xid=draft.xid))


def test_k2_a_message_of_another_row(settling: Settling) -> None:
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K2"):
        read_request(CT_AUTH_REQ, settling.sale.auth_req_signed)


# --- what it is about (H5 to H9) --------------------------------------------------------------------------------------


def test_h5_an_open_outcome_comes_first(settling: Settling) -> None:
    standing = settling.standing(settling.held).taken_in(bytes(20), bytes(32))
    with refused(ErrorCode.UNKNOWN_OUTCOME, "H5"):
        settling.check(settling.message(settling.capture()), standing)
    concluded = standing.concluded(settling.capture().body, None)
    assert settling.check(settling.message(settling.capture()), concluded).followed == concluded


def test_h6_an_approval_that_the_merchant_did_not_acknowledge(settling: Settling) -> None:
    """The gateway may be taking it back at this moment."""
    with refused(H, "H6"):
        settling.check(settling.message(settling.capture()), settling.standing(settling.held, acknowledged=False))


class Follows:
    """One capture and one credit of the held order, approved; and a request of every kind that follows them."""

    def __init__(self, settling: Settling) -> None:
        self.order = settling.authorisation(settling.held)
        standing, self.capture = settling.done(settling.capture(1_000_000), settling.standing(settling.held))
        self.standing, self.credit = settling.done(settling.credit(self.capture, 400_000), standing)
        self.requests = {
            "CapReq": settling.capture(1000),
            "CapRevReq": settling.capture_reversal(self.capture),
            "AuthRevReq": settling.auth_reversal(settling.held, 1_000_000),
            "CredReq": settling.credit(self.capture, 1000),
            "CredRevReq": settling.credit_reversal(self.credit),
        }


@pytest.fixture(scope="module")
def follows(settling: Settling) -> Follows:
    return Follows(settling)


@pytest.mark.parametrize(
    ("request_name", "wrong"),
    [
        ("CapReq", "capture"), ("CapReq", "nothing"), ("CapRevReq", "order"), ("CapRevReq", "credit"),
        ("CapRevReq", "nothing"), ("AuthRevReq", "capture"), ("AuthRevReq", "nothing"), ("CredReq", "order"),
        ("CredReq", "credit"), ("CredReq", "nothing"), ("CredRevReq", "capture"), ("CredRevReq", "nothing"),
    ],
)  # fmt: skip
def test_h6_a_request_that_follows_another_answer(
    settling: Settling, follows: Follows, request_name: str, wrong: str
) -> None:
    h_answer = {
        "order": follows.order.h_answer,
        "capture": follows.capture.h_answer,
        "credit": follows.credit.h_answer,
        "nothing": bytes(32),
    }[wrong]
    with refused(H, "H6"):
        settling.check(settling.message(follows.requests[request_name], h_answer=h_answer), follows.standing)


def test_h6_what_was_taken_back_is_not_followed(settling: Settling, follows: Follows) -> None:
    standing, _ = settling.done(settling.credit_reversal(follows.credit), follows.standing)
    with refused(H, "H6"):
        settling.check(settling.message(settling.credit_reversal(follows.credit)), standing)
    standing, _ = settling.done(settling.capture_reversal(follows.capture), standing)
    for draft in (settling.capture_reversal(follows.capture), settling.credit(follows.capture, 1)):
        with refused(H, "H6"):
            settling.check(settling.message(draft), standing)


def test_h6_a_sale_is_not_taken_back_as_a_capture(settling: Settling) -> None:
    draft = settling.capture_reversal(settling.authorisation(settling.sale))
    with refused(H, "H6"):
        settling.check(settling.message(draft), settling.standing(settling.sale))


@pytest.mark.parametrize("token", [None, b"another token", TOKEN + b"\0"])
def test_h7_the_token_of_another_authorisation(settling: Settling, token: bytes | None) -> None:
    with refused(H, "H7"):
        settling.check(settling.message(settling.capture(), cap_token=token), settling.standing(settling.held))


def test_h7_a_token_where_none_was_given(settling: Settling) -> None:
    with refused(H, "H7"):
        settling.check(settling.message(settling.capture()), settling.standing(settling.held, cap_token=None))
    message = settling.message(settling.capture(), cap_token=None)
    settling.check(message, settling.standing(settling.held, cap_token=None))


def test_h8_what_is_settled_is_not_taken_back(settling: Settling, follows: Follows) -> None:
    [capture], [credit] = follows.standing.captures, follows.standing.credits
    settled = replace(
        follows.standing, captures=(replace(capture, settled=True),), credits=(replace(credit, settled=True),)
    )
    for name in ("CapRevReq", "CredRevReq"):
        with refused(ErrorCode.INVOICE_EXPIRED, "H8"):
            settling.check(settling.message(follows.requests[name]), settled)
    for name in ("CapReq", "AuthRevReq", "CredReq"):
        settling.check(settling.message(follows.requests[name]), settled)


def test_h8_a_settled_sale_is_not_reversed(settling: Settling) -> None:
    h_auth_res = settling.authorisation(settling.sale).h_answer
    settled = settling.standing(settling.sale, captures=(Capture(h_auth_res, TOTAL, settled=True),))
    with refused(ErrorCode.INVOICE_EXPIRED, "H8"):
        settling.check(settling.message(settling.auth_reversal(settling.sale, 0)), settled)


def amount_of(request_name: str, money: Money) -> dict[str, Any]:
    """The field that holds a request's amount."""
    return {"new_amount" if request_name == "AuthRevReq" else "amount": money}


@pytest.mark.parametrize(
    ("request_name", "amount"),
    [
        ("CapReq", TOTAL - 1_000_000 + 1),  # more than is left of the authorisation
        ("CapRevReq", 999_999),  # a capture is taken back as a whole, and not while it is credited in part
        ("CapRevReq", 1_000_000),
        ("AuthRevReq", TOTAL),  # not less than is authorised
        ("AuthRevReq", 999_999),  # less than is captured
        ("CredReq", 600_001),  # more than is left of the capture
        ("CredRevReq", 399_999),  # a credit is taken back as a whole
        ("CredRevReq", 400_001),
    ],
)
def test_h9_amount_that_the_book_has_no_room_for(
    settling: Settling, follows: Follows, request_name: str, amount: int
) -> None:
    draft = follows.requests[request_name]
    with refused(AMOUNT, "H9"):
        settling.check(settling.message(draft, **amount_of(request_name, Money.rial(amount))), follows.standing)


@pytest.mark.parametrize(
    ("request_name", "amount"),
    [("CapReq", TOTAL - 1_000_000), ("AuthRevReq", TOTAL - 1), ("AuthRevReq", 1_000_000), ("CredReq", 600_000)],
)
def test_h9_the_last_rial_that_there_is_room_for(
    settling: Settling, follows: Follows, request_name: str, amount: int
) -> None:
    message = settling.message(follows.requests[request_name], **amount_of(request_name, Money.rial(amount)))
    assert settling.check(message, follows.standing).body.amount == Money.rial(amount)


def test_h9_a_sale_has_nothing_left_to_capture(settling: Settling) -> None:
    draft = settling.capture(1)
    sale = settling.authorisation(settling.sale)
    with refused(AMOUNT, "H9"):
        settling.check(
            settling.message(draft, xid=sale.xid, h_answer=sale.h_answer, cap_token=None),
            settling.standing(settling.sale),
        )


def test_h9_a_sale_is_not_reversed_below_what_was_given_back(settling: Settling) -> None:
    sale = settling.authorisation(settling.sale)
    standing, _ = settling.done(settling.credit(sale, 1_000_000), settling.standing(settling.sale))
    with refused(AMOUNT, "H9"):
        settling.check(settling.message(settling.auth_reversal(settling.sale, 999_999)), standing)


@pytest.mark.parametrize(
    "money", [Money(currency=840, amount=1000, exp=0), Money(currency=364, amount=100, exp=1), Money.rial(-1)]
)
@pytest.mark.parametrize("request_name", ["CapReq", "CapRevReq", "AuthRevReq", "CredReq", "CredRevReq"])
def test_k1_money_of_another_kind(settling: Settling, follows: Follows, request_name: str, money: Money) -> None:
    with refused(AMOUNT, "K1"):
        settling.receive(settling.message(follows.requests[request_name], **amount_of(request_name, money)))


@pytest.mark.parametrize("request_name", ["CapReq", "CapRevReq", "CredReq", "CredRevReq"])
def test_k1_nothing_is_captured_or_credited_for_nothing(
    settling: Settling, follows: Follows, request_name: str
) -> None:
    with refused(AMOUNT, "K1"):
        settling.receive(settling.message(follows.requests[request_name], amount=Money.rial(0)))


@pytest.mark.parametrize(
    "changes", [{"version": 1}, {"version": 3}, {"merchant_id": ""}, {"gw_id": "GW 1"}, {"cap_token": b""}]
)
def test_k1_form_of_the_request(settling: Settling, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        settling.receive(settling.message(settling.capture(), **changes))
    assert caught.value.check == "K1"


def test_k1_reason_out_of_the_table(settling: Settling) -> None:
    draft = settling.auth_reversal(settling.held, 0, reason=ReversalReason.SUSPECTED_FRAUD)
    body = draft.content.replace(b"\x02\x01\x03\x18", b"\x02\x01\x04\x18")
    assert body != draft.content
    data = settling.world.shop.sign(draft.content_type, body)
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        settling.receive(draft.message(data))


# --- the book ---------------------------------------------------------------------------------------------------------


def test_nothing_follows_a_decline(settling: Settling) -> None:
    world = settling.world
    data = auth_res_of(settling.sale, auth_code=AuthCode.DECLINED)
    declined = world.gateway_signing.sign(settling.sale.auth_res.content_type, data)
    with pytest.raises(ValueError, match="no approval"):
        Standing.of(declined, sale=True, acknowledged=True)


def test_what_the_merchant_keeps_is_what_the_gateway_said(settling: Settling) -> None:
    order = settling.authorisation(settling.held)
    assert order == Followed(
        h_answer=der.sha256(settling.held.auth_res_signed),
        xid=settling.held.auth_req.xid or b"",
        merchant_id="M-1",
        gw_id="GW-1",
        amount=Money.rial(TOTAL),
        cap_token=TOKEN,
    )


def test_every_request_type_is_served(settling: Settling, follows: Follows) -> None:
    drafts = follows.requests.values()
    assert {draft.content_type for draft in drafts} == set(REQUESTS)
    for draft in drafts:
        assert unwrap(settling.message(draft), expected=REQUESTS).msg_type == draft.content_type
        assert isinstance(draft.content_type, x509.ObjectIdentifier)
        assert draft.body.date == to_time(settling.world.now)
