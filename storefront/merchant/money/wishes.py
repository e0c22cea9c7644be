"""What a person at the merchant asks for after the authorisation, and the request that says so; pure.

A wish is judged by the merchant's own `Standing` with the checks that the gateway will apply (H5 to H9), before its key
signs anything: a mistyped amount never leaves the shop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NoReturn

from kwbp.codes import ErrorCode, ReversalReason
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.money import Money
from kwbp.settling import (
    Capture,
    Credit,
    Followed,
    SettlingReq,
    Standing,
    build_auth_reversal,
    build_capture,
    build_capture_reversal,
    build_credit,
    build_credit_reversal,
)
from kwbp.settling.request import check_against_book
from runtime.language import Message, Term
from storefront.errors import MoneyRefused

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,79}")
"""The name of a wish: its maker's, so that the same wish said twice is done once."""


class Operation(StrEnum):
    """What can be asked for about one order (rows 19 to 21)."""

    CAPTURE = "capture"
    UNCAPTURE = "uncapture"
    CANCEL = "cancel"
    REFUND = "refund"
    UNREFUND = "unrefund"


@dataclass(frozen=True, slots=True)
class Wish:
    """`amount` in rial: to capture or to give back, None for all there is; of a cancellation, what is kept (0).

    `of` is the beginning (hexadecimal) of the hash of the capture or credit that is meant; it may be absent where there
    is one only.
    """

    operation: Operation
    amount: int | None = None
    of: str | None = None
    reason: ReversalReason = ReversalReason.CUSTOMER_CANCELLATION

    def asked(self, xid: bytes) -> str:
        """The wish in one canonical line: one name stands for one of them."""
        members = [self.operation.value, xid.hex(), self.amount, self.of, int(self.reason)]
        return json.dumps(members, separators=(",", ":"))


def followed_answer(wish: Wish, standing: Standing) -> bytes:
    """Hash of the gateway's answer that the wish follows.

    :raises MoneyRefused: there is none, or more than one and the wish does not say which.
    """
    if wish.operation in (Operation.CAPTURE, Operation.CANCEL):
        return standing.h_auth_res
    if wish.operation is Operation.UNREFUND:
        return _the_one(standing.credits, wish.of, "credit")
    captures = standing.captures
    if wish.operation is Operation.UNCAPTURE:  # of a sale, the authorisation is taken back
        captures = tuple(each for each in captures if each.h_answer != standing.h_auth_res)
        if not captures and standing.sale is not None:
            raise MoneyRefused(
                Message("this was a sale: it is taken back with {command}", command="'kwbp merchant cancel'"),
                clause="H6",
            )
    return _the_one(captures, wish.of, "capture")


def _the_one(those: Sequence[Capture | Credit], of: str | None, what: str) -> bytes:
    """The one that is meant."""
    found = [each for each in those if each.h_answer.hex().startswith((of or "").lower())]
    if len(found) == 1:
        return found[0].h_answer
    if not found:
        nothing = Message("no capture stands that this could follow")
        raise MoneyRefused(
            nothing if what == "capture" else Message("no refund stands that this could follow"), clause="H6"
        )
    names = ", ".join(f"{each.h_answer.hex()[:12]} ({each.amount:,})" for each in found)
    raise MoneyRefused(Message("there is more than one; say which with {option}: {names}", option="--of", names=names))


def build(wish: Wish, standing: Standing, followed: Followed, *, rrpid: bytes, now: datetime) -> Draft[Any]:
    """The request that says what is wished, checked against the own book.

    :param followed: the answer of `followed_answer`. :param rrpid: 20 fresh random bytes.
    :raises MoneyRefused: the book has no room for it (H5 to H9).
    """
    draft = _draft(wish, standing, followed, rrpid=rrpid, now=now)
    try:
        check_against_book(draft.body, standing)
    except ProtocolError as error:
        _explain(error, wish, draft.body, standing)
    return draft


def _draft(wish: Wish, standing: Standing, followed: Followed, *, rrpid: bytes, now: datetime) -> Draft[Any]:
    match wish.operation:
        case Operation.CAPTURE:
            amount = _amount(wish, standing.authorised - standing.captured)
            return build_capture(followed, amount, rrpid=rrpid, now=now)
        case Operation.CANCEL:
            kept = Money.rial(wish.amount or 0)
            return build_auth_reversal(followed, kept, reason=wish.reason, rrpid=rrpid, now=now)
        case Operation.REFUND:
            capture = standing.capture(followed.h_answer)
            assert capture is not None  # `followed_answer` found it there
            amount = _amount(wish, capture.amount - standing.refunded_of(capture.h_answer))
            return build_credit(followed, amount, rrpid=rrpid, now=now)
        case Operation.UNCAPTURE:
            return build_capture_reversal(followed, rrpid=rrpid, now=now)
        case Operation.UNREFUND:
            return build_credit_reversal(followed, rrpid=rrpid, now=now)


def _amount(wish: Wish, left: int) -> Money:
    """What is asked for, or all that is left.

    :raises MoneyRefused: nothing is left, or the amount is none.
    """
    if left <= 0:
        raise MoneyRefused(
            Message(
                "nothing is left of this order to {operation}", operation=Term("money operation", wish.operation.value)
            ),
            clause="H9",
        )
    amount = left if wish.amount is None else wish.amount
    if not 0 < amount <= left:
        raise MoneyRefused(
            Message("the amount must be from {least} to {most} rial", least="1", most=f"{left:,}"), clause="H9"
        )
    return Money.rial(amount)


def _explain(error: ProtocolError, wish: Wish, body: SettlingReq, standing: Standing) -> NoReturn:
    """A refusal of the own book, for whoever typed the wish."""
    bounds = standing.bounds(body)
    if error.code is ErrorCode.AMOUNT_MISMATCH and len(bounds) > 0:
        said = Message("the amount must be from {least} to {most} rial", least=f"{bounds[0]:,}", most=f"{bounds[-1]:,}")
    elif error.code is ErrorCode.AMOUNT_MISMATCH and wish.operation is Operation.UNCAPTURE:
        said = Message("money of this capture was given back: take the refund back first")
    elif error.code is ErrorCode.AMOUNT_MISMATCH:
        said = Message(
            "nothing is left of this order to {operation}", operation=Term("money operation", wish.operation.value)
        )
    elif error.check == "H8":
        said = Message(
            "its batch is closed: what is settled is not taken back but refunded, with {command}",
            command="'kwbp merchant refund'",
        )
    else:
        said = Message("nothing of this order stands that this could follow")
    raise MoneyRefused(said, clause=error.check) from None
