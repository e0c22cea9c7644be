"""Row 22: a merchant's batches, whose sums merchant and gateway compute alike (L1 to L8)."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwbp.codes import BatchOperation, BatchStatus, EntryKind, ErrorCode
from kwbp.common import instant
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.gateway import EnrolledMerchant
from kwbp.settling import (
    Batch,
    Batches,
    CheckedBatchRequest,
    Entry,
    KindTotal,
    SentBatchRequest,
    check_batch_request,
    is_batch_request_repeated,
    sale_entry,
    totals_of,
    within,
)
from kwbp.settling.coherence import adds_up
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.oids import CT_BATCH_ADMIN_REQ, CT_BATCH_ADMIN_RES
from tests.kwbp.forge import forged, refused
from tests.kwbp.settling import DAY, SECOND, Settling
from tests.kwbp.world import TOTAL
from tests.support.pki_factory import NOW

Op = BatchOperation


# --- sums -------------------------------------------------------------------------------------------------------------

ENTRIES = st.lists(
    st.builds(
        lambda kind, number, amount, minutes: Entry(
            kind=kind,
            xid=bytes(20),
            h_answer=sha256(number.to_bytes(4, "big")),
            amount=amount,
            date=to_time(NOW + minutes * timedelta(minutes=1)),
        ),
        st.sampled_from(EntryKind),
        st.integers(0, 10**6),
        st.integers(1, 10**12 - 1),
        st.integers(0, 1440),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(ENTRIES, st.randoms(use_true_random=False))
def test_totals_are_the_sums_of_the_entries_in_whatever_order(entries: list[Entry], shuffled: random.Random) -> None:
    totals = totals_of(entries)
    assert sum(total.count for total in totals.totals) == len(entries)
    assert totals.net == sum(
        entry.amount if entry.kind in (EntryKind.SALE, EntryKind.CAPTURE, EntryKind.CREDIT_REVERSAL) else -entry.amount
        for entry in entries
    )
    assert adds_up(totals)
    other = list(entries)
    shuffled.shuffle(other)
    assert totals_of(other) == totals


@settings(max_examples=50)
@given(ENTRIES, st.integers(0, 1440), st.integers(0, 1440))
def test_every_entry_is_in_exactly_one_batch(entries: list[Entry], one: int, two: int) -> None:
    first, second = (NOW + minutes * timedelta(minutes=1) for minutes in sorted((one, two)))
    batches = [
        within(entries, begins=None, until=first),
        within(entries, begins=first, until=second),
        within(entries, begins=second, until=NOW + 2 * DAY),
    ]
    assert sum(len(batch) for batch in batches) == len(entries)
    assert {entry.h_answer for batch in batches for entry in batch} == {entry.h_answer for entry in entries}


def test_equal_sums_of_different_entries_are_not_equal(settling: Settling) -> None:
    entries = settling.entries
    twin = (replace(entries[0], h_answer=bytes(32)), *entries[1:])
    one, other = totals_of(entries), totals_of(twin)
    assert replace(other, h_entries=one.h_entries) == one
    assert other != one
    assert hash(replace(other, h_entries=one.h_entries)) == hash(one)


def test_both_sides_make_the_same_entries_of_the_same_answers(settling: Settling) -> None:
    """A sale, a credit and a reversal of it, and the release of what was only authorised, which moves nothing."""
    sale = settling.authorisation(settling.sale)
    standing = settling.standing(settling.sale)
    entries = [sale_entry(settling.sale.auth_res_signed)]
    for draft in (settling.credit(sale, 1_000_000), settling.auth_reversal(settling.sale, 1_500_000)):
        checked = settling.check(settling.message(draft), standing)
        answer = settling.answer(checked)
        entry = standing.entry(draft.body, answer.body, sha256(answer.content))
        assert entry is not None
        entries.append(entry)
        standing = standing.concluded(draft.body, sha256(answer.content))
    assert [(entry.kind, entry.amount) for entry in entries] == [
        (EntryKind.SALE, TOTAL),
        (EntryKind.CREDIT, 1_000_000),
        (EntryKind.SALE_REVERSAL, TOTAL - 1_500_000),
    ]
    assert {entry.xid for entry in entries} == {sale.xid}
    assert entries[0].h_answer == sale.h_answer
    assert totals_of(entries).net == standing.captured - standing.refunded == 500_000
    released, held = settling.auth_reversal(settling.held, 0), settling.standing(settling.held)
    reply = settling.answer(settling.check(settling.message(released), held))
    assert held.entry(released.body, reply.body, bytes(32)) is None


# --- a batch from its opening to its end ------------------------------------------------------------------------------


def asked(settling: Settling, draft: Any, batches: Batches, **changes: Any) -> tuple[CheckedBatchRequest, Any]:
    """Ask and be answered, everything checked."""
    message = settling.batch_message(draft)
    checked = settling.check_batch(message, batches, **changes)
    sent = SentBatchRequest.load(unwrap(message, expected=[CT_BATCH_ADMIN_REQ]).body)
    answer = settling.check_batch_answer(settling.answer_message(settling.batch_answer(checked)), sent)
    return checked, answer


def test_batches_are_opened_and_closed_one_behind_another(settling: Settling) -> None:
    now = settling.world.now
    opened, answer = asked(settling, settling.batch_request(Op.OPEN), Batches("M-1"), entries=())
    assert (opened.batch, answer.status, answer.begins) == (Batch(1, None), BatchStatus.OPEN, None)
    until = now - timedelta(hours=4)
    closed, answer = asked(settling, settling.closing(until), settling.batches())
    assert (closed.batch.until, answer.status, instant(answer.until)) == (until, BatchStatus.CLOSED, until)
    assert [(total.kind, total.count) for total in answer.totals.totals] == [(EntryKind.SALE, 2)]
    following, answer = asked(settling, settling.batch_request(Op.OPEN, 2), settling.batches(newest=closed.batch))
    assert (following.batch, instant(answer.begins)) == (Batch(2, until), until)
    rest = within(settling.entries, begins=until, until=now)
    draft = settling.batch_request(Op.CLOSE, 2, until=now, totals=totals_of(rest))
    _, answer = asked(settling, draft, settling.batches(newest=following.batch))
    assert answer.totals.net == -250_000
    assert len(rest) == 3


def test_status_says_the_gateways_own_sums(settling: Settling) -> None:
    now = settling.world.now
    _, answer = asked(settling, settling.batch_request(Op.STATUS), settling.batches())
    assert (answer.status, answer.totals) == (BatchStatus.OPEN, totals_of(settling.entries))
    until = now - timedelta(hours=4)
    _, answer = asked(settling, settling.batch_request(Op.STATUS, until=until), settling.batches())
    assert (instant(answer.until), answer.totals.net) == (until, 3_750_000)
    closed = settling.batches(newest=Batch(1, None, until))
    _, answer = asked(settling, settling.batch_request(Op.STATUS), closed)
    assert (answer.status, instant(answer.until), answer.totals.net) == (BatchStatus.CLOSED, until, 3_750_000)


# --- what the gateway refuses -----------------------------------------------------------------------------------------

LEFT = EnrolledMerchant(merchant_id="M-1", terminal_ids=frozenset(), active=False)


@pytest.mark.parametrize("changes", [{"merchant": None}, {"merchant": LEFT}, {"tls_merchant_id": "M-2"}])
def test_l1_requester_is_an_active_merchant_and_the_tls_peer(settling: Settling, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "L1"):
        settling.check_batch(settling.batch_message(settling.batch_request(Op.STATUS)), settling.batches(), **changes)


def test_l1_batches_of_another_merchant(settling: Settling) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "L1"):
        settling.check_batch(settling.batch_message(settling.batch_request(Op.STATUS)), Batches("M-2", Batch(1, None)))


def test_l1_the_request_is_signed_by_the_merchant_that_it_names(settling: Settling) -> None:
    world = settling.world
    message = settling.batch_message(settling.batch_request(Op.STATUS), signer=world.other_shop)
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "L1"):
        settling.check_batch(message, settling.batches())
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "L1"):
        check_batch_request(
            settling.receive_batch(message),
            settling.batches(),
            (),
            gateway=world.gateway_identity,
            trust=world.trust,
            now=world.now,
        )


def test_l1_a_request_to_another_gateway(settling: Settling) -> None:
    message = settling.batch_message(settling.batch_request(Op.STATUS), gw_id="GW-2")
    with refused(ErrorCode.GATEWAY_MISMATCH, "L1"):
        settling.check_batch(message, settling.batches())


def test_l2_the_same_request_is_a_repeat_and_another_one_is_not(settling: Settling) -> None:
    draft = settling.batch_request(Op.STATUS)
    received = settling.receive_batch(settling.batch_message(draft))
    batches = settling.batches(requests={draft.rrpid: received.digest})
    assert is_batch_request_repeated(received, settling.world.enrolled, batches, tls_merchant_id="M-1")
    with refused(ErrorCode.BAD_MESSAGE_HEADER, "L2"):
        settling.check_batch(settling.batch_message(draft, batch_id=2), batches)


@pytest.mark.parametrize(
    ("operation", "batch_id", "newest"),
    [
        (Op.OPEN, 2, Batch(1, None)),  # one is open
        (Op.OPEN, 1, Batch(1, None, NOW - DAY)),  # that number was used
        (Op.OPEN, 3, Batch(1, None, NOW - DAY)),  # that number is not in turn
        (Op.OPEN, 2, None),
        (Op.CLOSE, 1, None),
        (Op.CLOSE, 1, Batch(2, NOW - DAY)),
        (Op.CLOSE, 1, Batch(1, None, NOW - DAY)),  # is closed
        (Op.STATUS, 1, None),
        (Op.STATUS, 2, Batch(1, None)),
    ],
)
def test_l3_a_batch_that_is_not_in_turn(
    settling: Settling, operation: BatchOperation, batch_id: int, newest: Batch | None
) -> None:
    if operation is Op.CLOSE:
        draft = settling.closing(settling.world.now - DAY)
    else:
        draft = settling.batch_request(operation, batch_id)
    with refused(ErrorCode.INVOICE_MISMATCH, "L3"):
        settling.check_batch(settling.batch_message(draft), settling.batches(newest=newest))


def test_l4_a_batch_ends_after_it_began_and_not_in_the_future(settling: Settling) -> None:
    now = settling.world.now
    for until, begins in ((now - DAY - SECOND, now - DAY), (now + SECOND, None)):
        batches = settling.batches(newest=Batch(1, begins))
        for draft in (settling.closing(until), settling.batch_request(Op.STATUS, until=until)):
            with refused(ErrorCode.INVOICE_EXPIRED, "L4"):
                settling.check_batch(settling.batch_message(draft), batches)


def test_l5_sums_that_are_not_those_of_the_gateways_book(settling: Settling) -> None:
    now = settling.world.now
    honest = totals_of(settling.entries)
    one_less = replace(
        honest, totals=[replace(honest.totals[0], amount=honest.totals[0].amount - 1), *honest.totals[1:]]
    )
    for wrong in (
        replace(honest, net=honest.net + 1),
        replace(honest, h_entries=bytes(32)),
        one_less,
        totals_of(settling.entries[1:]),
        totals_of(()),
    ):
        with refused(ErrorCode.AMOUNT_MISMATCH, "L5"):
            settling.check_batch(settling.batch_message(settling.closing(now, totals=wrong)), settling.batches())


def test_k6_k7_a_request_is_signed_just_now(settling: Settling) -> None:
    draft, world = settling.batch_request(Op.STATUS), settling.world
    data = forged(CT_BATCH_ADMIN_REQ, draft.content, named=world.shop, signed_by=world.other_shop)
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        settling.check_batch(draft.message(data), settling.batches())
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        settling.check_batch(settling.batch_message(draft), settling.batches(), now=world.now + 121 * SECOND)


def test_k2_a_header_that_the_request_contradicts(settling: Settling) -> None:
    draft = settling.batch_request(Op.STATUS)
    for header in ({"rrpid": bytes(20)}, {"xid": bytes(20)}):
        with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
            settling.receive_batch(settling.batch_message(draft, header=header))


TOTALS = totals_of(())
ONE = KindTotal(kind=EntryKind.SALE, count=1, amount=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1}, {"merchant_id": ""}, {"gw_id": ""}, {"batch_id": 0}, {"until": NOW, "operation": Op.OPEN},
        {"operation": Op.CLOSE}, {"operation": Op.CLOSE, "until": NOW}, {"operation": Op.CLOSE, "totals": TOTALS},
        {"totals": TOTALS}, {"operation": Op.OPEN, "totals": TOTALS},
        *(
            {"operation": Op.CLOSE, "until": NOW, "totals": totals}
            for totals in (
                replace(TOTALS, totals=[ONE, ONE]),
                replace(TOTALS, totals=[replace(ONE, kind=EntryKind.CREDIT), ONE]),
                replace(TOTALS, totals=[replace(ONE, count=0)]),
                replace(TOTALS, totals=[replace(ONE, amount=0)]),
                replace(TOTALS, net=7 * 10**18),
            )
        ),
    ],
    ids=lambda changes: "-".join(changes),
)  # fmt: skip
def test_k1_form_of_the_request(settling: Settling, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        settling.receive_batch(settling.batch_message(settling.batch_request(Op.STATUS), **changes))
    assert caught.value.check == "K1"


@pytest.mark.parametrize("changes", [{"amount": 0}, {"amount": 10**12}])
def test_k1_form_of_an_entry(settling: Settling, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        totals_of([replace(settling.entries[0], **changes)])
    assert (caught.value.check, caught.value.code) == ("K1", ErrorCode.AMOUNT_MISMATCH)


# --- what the merchant refuses ----------------------------------------------------------------------------------------


class Closing:
    """A batch that was closed, and the gateway's answer to it."""

    def __init__(self, settling: Settling, draft: Any, batches: Batches) -> None:
        self.settling = settling
        message = settling.batch_message(draft)
        checked = settling.check_batch(message, batches)
        self.sent = SentBatchRequest.load(unwrap(message, expected=[CT_BATCH_ADMIN_REQ]).body)
        self.answer = settling.batch_answer(checked)

    def judged(self, **changes: Any) -> Any:
        return self.settling.check_batch_answer(self.settling.answer_message(self.answer, **changes), self.sent)


@pytest.fixture(scope="module")
def closing(settling: Settling) -> Closing:
    return Closing(settling, settling.closing(settling.world.now), settling.batches())


@pytest.mark.parametrize(
    "changes", [{"h_request": bytes(32)}, {"rrpid": bytes(20)}, {"merchant_id": "M-2"}, {"batch_id": 2}]
)
def test_l6_answer_to_another_request(closing: Closing, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.CHALLENGE_MISMATCH, "L6"):
        closing.judged(**changes)


def test_l7_answer_of_another_gateway(closing: Closing) -> None:
    world = closing.settling.world
    for changes in (
        {"signer": world.other_gateway_signing},
        {"signer": world.other_gateway_signing, "gw_id": "GW-2"},
        {"acquirer_id": "622106"},
    ):
        with refused(ErrorCode.GATEWAY_MISMATCH, "L7"):
            closing.judged(**changes)


def test_l4_an_answer_about_a_batch_that_cannot_be(closing: Closing) -> None:
    now = closing.settling.world.now
    for changes in ({"begins": now + SECOND}, {"until": now + SECOND}):
        with refused(ErrorCode.INVOICE_EXPIRED, "L4"):
            closing.judged(**changes)


def test_l5_an_answer_that_does_not_add_up(closing: Closing) -> None:
    totals = closing.answer.body.totals
    with refused(ErrorCode.AMOUNT_MISMATCH, "L5"):
        closing.judged(totals=replace(totals, net=totals.net + 1))


def test_l8_an_answer_that_is_not_what_was_asked_for(settling: Settling, closing: Closing) -> None:
    now = settling.world.now
    for changes in (
        {"status": BatchStatus.OPEN},
        {"totals": totals_of(settling.entries[1:])},
        {"until": now - SECOND},
    ):
        with refused(ErrorCode.INVOICE_MISMATCH, "L8"):
            closing.judged(**changes)
    counted = Closing(settling, settling.batch_request(Op.STATUS, until=now), settling.batches())
    with refused(ErrorCode.INVOICE_MISMATCH, "L8"):
        counted.judged(until=now - SECOND)
    opening = Closing(settling, settling.batch_request(Op.OPEN), Batches("M-1"))
    with refused(ErrorCode.INVOICE_MISMATCH, "L8"):
        opening.judged(status=BatchStatus.CLOSED)


def test_k_an_answer_is_the_gateways_and_not_older_than_the_request(closing: Closing) -> None:
    world = closing.settling.world
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        closing.judged(signer=world.shop)
    data = forged(
        CT_BATCH_ADMIN_RES, closing.answer.content, named=world.gateway_signing, signed_by=world.other_gateway_signing
    )
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        closing.settling.check_batch_answer(closing.answer.message(data), closing.sent)
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        closing.judged(signing_time=world.now - 121 * SECOND)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        closing.judged(header={"xid": bytes(20)})


@pytest.mark.parametrize("changes", [{"version": 3}, {"batch_id": 0}, {"acquirer_id": ""}, {"gw_id": ""}])
def test_k1_form_of_the_answer(closing: Closing, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        closing.judged(**changes)
    assert caught.value.check == "K1"
