"""Row 23: what the acquirer pays a merchant (N1 to N4), and how that may differ from its own book."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from kwbp.codes import EntryKind, ErrorCode
from kwbp.errors import ProtocolError
from kwbp.parties import MerchantIdentity
from kwbp.settling import (
    AdviceLine,
    CheckedAdvice,
    Difference,
    DifferenceKind,
    LedgerEntry,
    differences,
    totals_of,
)
from kwbp.settling.coherence import advised_net
from pki.der import sha256
from pki.oids import CT_SETTLE_ADVICE, EXT_ACCOUNT_BINDING
from tests.kwbp.forge import forged, refused
from tests.kwbp.settling import SECOND, Settling
from tests.support.pki_factory import Credential

D = DifferenceKind


def told(settling: Settling, draft: Any = None, **changes: Any) -> CheckedAdvice:
    """An advice, with other fields if asked for, as the merchant judges it."""
    draft = draft or settling.advice()
    return settling.check_advice(settling.answer_message(draft, **changes))


def ledger(settling: Settling) -> list[LedgerEntry]:
    """The merchant's own book of the day."""
    return [
        LedgerEntry(entry.kind, entry.xid, entry.h_answer, entry.amount, 1000 if entry.kind is EntryKind.SALE else 0)
        for entry in settling.entries
    ]


# --- the message ------------------------------------------------------------------------------------------------------


def test_an_advice_pays_the_sum_of_its_lines_less_fees(settling: Settling) -> None:
    advice = told(settling)
    assert advice.body.net == totals_of(settling.entries).net - 2000
    assert differences([advice], ledger(settling)) == ()
    assert advice.digest == sha256(advice.signed)


def test_an_advice_may_come_late_and_again_but_not_changed(settling: Settling) -> None:
    message = settling.answer_message(settling.advice())
    first = settling.check_advice(message)
    later = settling.check_advice(message, now=settling.world.now + 3600 * SECOND, known=first.digest)
    assert later.digest == first.digest
    with refused(ErrorCode.HASH_MISMATCH, "N4"):
        settling.check_advice(settling.answer_message(settling.advice([])), known=first.digest)


def test_n1_advice_of_another_gateway_or_acquirer(settling: Settling) -> None:
    world = settling.world
    for changes in (
        {"signer": world.other_gateway_signing},
        {"signer": world.other_gateway_signing, "gw_id": "GW-2"},
        {"signer": world.pki.gateway_signing("GW-1", acquirer_bin="622106"), "acquirer_id": "622106"},
        {"acquirer_id": "622106"},
    ):
        with refused(ErrorCode.GATEWAY_MISMATCH, "N1"):
            told(settling, **changes)


def test_n2_advice_for_another_merchant(settling: Settling) -> None:
    with refused(ErrorCode.INVOICE_MISMATCH, "N2"):
        told(settling, merchant_id="M-2")


def test_n2_money_to_another_account(settling: Settling) -> None:
    with refused(ErrorCode.ACCOUNT_BINDING_FAILURE, "N2"):
        told(settling, iban="IR820540102680020817909002")


def unbound(settling: Settling, value: bytes | None) -> Credential:
    """A merchant whose certificate has another account binding, or none."""
    pki = settling.world.pki
    if value is not None:
        return pki.merchant("M-1", replace={"own_1": (x509.UnrecognizedExtension(EXT_ACCOUNT_BINDING, value), False)})
    harmless = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1.1"), b"\x05\x00")
    return pki.merchant("M-1", replace={"own_1": (harmless, False)})


@pytest.mark.parametrize("value", [None, b"\x30\x00"])
def test_n2_a_certificate_that_is_bound_to_no_account(settling: Settling, value: bytes | None) -> None:
    merchant = MerchantIdentity.of(unbound(settling, value).certificate)
    with refused(ErrorCode.INVALID_CERTIFICATE, "N2"):
        settling.check_advice(settling.answer_message(settling.advice()), merchant=merchant)


@pytest.mark.parametrize("off", [-1, 1])
def test_n3_net_that_is_not_the_sum_of_the_lines(settling: Settling, off: int) -> None:
    with refused(ErrorCode.AMOUNT_MISMATCH, "N3"):
        told(settling, net=settling.advice().body.net + off)


def test_n3_one_line_changed(settling: Settling) -> None:
    lines = settling.lines()
    for changes in ({"amount": lines[0].amount + 1}, {"fee": 1001}, {"kind": EntryKind.CREDIT}):
        with refused(ErrorCode.AMOUNT_MISMATCH, "N3"):
            told(settling, lines=[replace(lines[0], **changes), *lines[1:]])


def test_n4_a_business_day_that_has_not_come(settling: Settling) -> None:
    assert told(settling, business_date="20260321").body.part == 1
    with refused(ErrorCode.CLOCK_SKEW, "N4"):
        told(settling, business_date="20260322")


def test_k_an_advice_is_the_gateways_and_not_from_the_future(settling: Settling) -> None:
    world, draft = settling.world, settling.advice()
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        told(settling, signer=world.shop)
    data = forged(CT_SETTLE_ADVICE, draft.content, named=world.gateway_signing, signed_by=world.other_gateway_signing)
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        settling.check_advice(draft.message(data))
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        told(settling, signing_time=world.now + 121 * SECOND)
    with refused(ErrorCode.CLOCK_SKEW, "K7"):
        told(settling, date=world.now - 121 * SECOND)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        told(settling, header={"xid": bytes(20)})


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1}, {"merchant_id": ""}, {"business_date": "2026032"}, {"business_date": "20260231"},
        {"part": 0}, {"part": 2}, {"parts": 0}, {"parts": 1000}, {"net": 7 * 10**18}, {"iban": "IR57 0560"},
        {"gw_id": ""}, {"acquirer_id": ""},
    ],
    ids=str,
)  # fmt: skip
def test_k1_form_of_the_advice(settling: Settling, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        told(settling, **changes)
    assert caught.value.check == "K1"


@pytest.mark.parametrize("changes", [{"amount": 0}, {"amount": -1}, {"amount": 10**12}, {"fee": -1}, {"fee": 10**12}])
def test_k1_form_of_a_line(settling: Settling, changes: dict[str, Any]) -> None:
    with refused(ErrorCode.AMOUNT_MISMATCH, "K1"):
        told(settling, lines=[replace(settling.lines()[0], **changes)])


# --- the comparison with the own book ---------------------------------------------------------------------------------


def found(settling: Settling, lines: list[AdviceLine], book: list[LedgerEntry] | None = None) -> tuple[Difference, ...]:
    return differences([told(settling, settling.advice(lines))], ledger(settling) if book is None else book)


def test_a_movement_that_is_not_paid(settling: Settling) -> None:
    lines = settling.lines()
    assert found(settling, lines[1:]) == (Difference(D.NOT_ADVISED, lines[0].h_answer, expected=lines[0].amount),)


def test_a_movement_that_the_merchant_does_not_know(settling: Settling) -> None:
    book = ledger(settling)
    assert found(settling, settling.lines(), book[1:]) == (
        Difference(D.NOT_IN_BOOK, book[0].h_answer, advised=book[0].amount),
    )


def test_a_movement_that_is_paid_twice(settling: Settling) -> None:
    lines = settling.lines()
    assert found(settling, [*lines, lines[2]]) == (Difference(D.REPEATED, lines[2].h_answer, expected=1, advised=2),)


@pytest.mark.parametrize(
    ("changes", "kind", "expected", "advised"),
    [
        ({"xid": b"x" * 20}, D.OTHER_PURCHASE, None, None),
        ({"kind": EntryKind.CREDIT}, D.OTHER_KIND, EntryKind.SALE, EntryKind.CREDIT),
        ({"amount": 499_999}, D.OTHER_AMOUNT, 500_000, 499_999),
        ({"fee": 1001}, D.OTHER_FEE, 1000, 1001),
    ],
)
def test_a_movement_that_is_advised_as_another(
    settling: Settling, changes: dict[str, Any], kind: DifferenceKind, expected: int | None, advised: int | None
) -> None:
    lines = settling.lines()
    assert found(settling, [lines[0], replace(lines[1], **changes), *lines[2:]]) == (
        Difference(kind, lines[1].h_answer, expected, advised),
    )


def test_fees_that_the_merchant_does_not_reckon_are_not_compared(settling: Settling) -> None:
    book = [replace(entry, fee=None) for entry in ledger(settling)]
    lines = [replace(line, fee=7) for line in settling.lines()]
    assert found(settling, lines, book) == ()


def test_a_day_in_parts_is_compared_when_all_have_come(settling: Settling) -> None:
    lines = settling.lines()
    one, two, three = (
        told(settling, settling.advice(part, part=number, parts=3))
        for number, part in enumerate((lines[:2], lines[2:4], lines[4:]), start=1)
    )
    assert differences([three, one, two, one], ledger(settling)) == ()
    assert differences([two], ledger(settling)) == (
        Difference(D.PART_MISSING, None, expected=1),
        Difference(D.PART_MISSING, None, expected=3),
    )


def test_a_comparison_is_about_one_day(settling: Settling) -> None:
    two_days = [told(settling), told(settling, business_date="20260319")]
    for advice in ([], two_days):
        with pytest.raises(ValueError, match="one business day"):
            differences(advice, ledger(settling))


LINES = st.lists(
    st.builds(
        lambda kind, number, amount, fee: AdviceLine(
            kind=kind, xid=bytes(20), h_answer=sha256(bytes([number])), amount=amount, fee=fee
        ),
        st.sampled_from(EntryKind),
        st.integers(0, 255),
        st.integers(1, 10**12 - 1),
        st.integers(0, 10**6),
    ),
    max_size=8,
    unique_by=lambda line: line.h_answer,
)


@settings(max_examples=60, deadline=None)
@given(LINES, st.data())
def test_no_difference_means_that_the_own_book_says_the_same_net(
    settling: Settling, lines: list[AdviceLine], data: st.DataObject
) -> None:
    """Whatever the acquirer changes in one line, it is named; where nothing is named, the money is right."""
    book = [LedgerEntry(line.kind, line.xid, line.h_answer, line.amount, line.fee) for line in lines]
    advised = list(lines)
    if lines and data.draw(st.sampled_from((True, False))):
        at = data.draw(st.integers(0, len(lines) - 1))
        changes = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "kind": st.sampled_from(EntryKind),
                    "amount": st.integers(1, 10**6),
                    "fee": st.integers(0, 9),
                },
            )
        )
        advised[at] = replace(lines[at], **changes)
    body = settling.advice(advised).body
    named = differences([CheckedAdvice(body, b"", b"")], book)
    own_net = sum(entry.kind.sign * entry.amount - (entry.fee or 0) for entry in book)
    same = all((a.kind, a.amount, a.fee) == (b.kind, b.amount, b.fee) for a, b in zip(advised, book, strict=True))
    assert (named == ()) == same
    assert named or body.net == own_net == advised_net(advised)
