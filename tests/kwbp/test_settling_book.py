"""Money after the authorisation: whatever is asked in whatever order, 0 ≤ refunded ≤ captured ≤ authorised ≤ approved.

The oracle is a second, plainer bookkeeping: the list of what was approved, summed up anew after each step.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwbp.codes import EntryKind, ReversalReason
from kwbp.errors import ProtocolError
from kwbp.fields import VERSION, to_time
from kwbp.money import Money
from kwbp.settling import (
    AuthRevReqTBS,
    CapReqTBS,
    CapRevReqTBS,
    Capture,
    Credit,
    CredReqTBS,
    CredRevReqTBS,
    SettlingReq,
    Standing,
)
from kwbp.settling.request import check_against_book
from pki.der import sha256
from tests.support.pki_factory import NOW

APPROVED = 100
ORDER = sha256(b"AuthRes")
KINDS: tuple[type[SettlingReq], ...] = (CapReqTBS, CapRevReqTBS, AuthRevReqTBS, CredReqTBS, CredRevReqTBS)


def opened(*, sale: bool) -> Standing:
    return Standing(
        xid=bytes(20),
        merchant_id="M-1",
        h_auth_res=ORDER,
        approved=Money.rial(APPROVED),
        authorised=APPROVED,
        cap_token=None,
        acknowledged=True,
        captures=(Capture(ORDER, APPROVED),) if sale else (),
    )


def asked(kind: type[SettlingReq], h_answer: bytes, amount: int) -> SettlingReq:
    common: dict[str, Any] = {
        "version": VERSION,
        "rrpid": bytes(20),
        "xid": bytes(20),
        "merchant_id": "M-1",
        "gw_id": "GW-1",
        "h_answer": h_answer,
        "date": to_time(NOW),
    }
    if kind is CapReqTBS:
        return CapReqTBS(**common, amount=Money.rial(amount), cap_token=None)
    if kind is AuthRevReqTBS:
        return AuthRevReqTBS(**common, new_amount=Money.rial(amount), reason=ReversalReason.WRONG_AMOUNT)
    make: Callable[..., SettlingReq] = kind
    return make(**common, amount=Money.rial(amount))


@dataclass
class Plain:
    """What was approved, as a list; every sum is computed from the beginning."""

    sale: bool
    approvals: list[tuple[bytes, SettlingReq]] = field(default_factory=list)

    def _stand(self, kind: type[SettlingReq], reversal: type[SettlingReq]) -> dict[bytes, int]:
        gone = {body.h_answer for _, body in self.approvals if isinstance(body, reversal)}
        return {h: body.amount.amount for h, body in self.approvals if isinstance(body, kind) and h not in gone}

    @property
    def authorised(self) -> int:
        return min([APPROVED, *(b.amount.amount for _, b in self.approvals if isinstance(b, AuthRevReqTBS))])

    @property
    def captures(self) -> dict[bytes, int]:
        return ({ORDER: self.authorised} if self.sale else {}) | self._stand(CapReqTBS, CapRevReqTBS)

    @property
    def credits(self) -> dict[bytes, int]:
        return self._stand(CredReqTBS, CredRevReqTBS)

    def credited(self, h_capture: bytes) -> int:
        of = {h for h, body in self.approvals if body.h_answer == h_capture}
        return sum(amount for h, amount in self.credits.items() if h in of)

    def has_room(self, body: SettlingReq) -> bool:
        """The rules of rows 19 to 21, said again."""
        amount, follows = body.amount.amount, body.h_answer
        captured = sum(self.captures.values())
        if isinstance(body, CapReqTBS):
            return follows == ORDER and 0 < amount <= self.authorised - captured
        if isinstance(body, AuthRevReqTBS):
            least = self.credited(ORDER) if self.sale else captured
            return follows == ORDER and least <= amount < self.authorised
        if isinstance(body, CapRevReqTBS):
            own = follows != ORDER and follows in self.captures
            return own and amount == self.captures[follows] and not self.credited(follows)
        if isinstance(body, CredReqTBS):
            return follows in self.captures and 0 < amount <= self.captures[follows] - self.credited(follows)
        return follows in self.credits and amount == self.credits[follows]


def likely(chance: random.Random, standing: Standing) -> SettlingReq:
    """A request that has a chance: it follows something that stands, and its amount is near what there is room for."""
    follows: dict[type[SettlingReq], list[bytes]] = {
        CapReqTBS: [ORDER],
        AuthRevReqTBS: [ORDER],
        CapRevReqTBS: [each.h_answer for each in standing.captures] or [ORDER],
        CredReqTBS: [each.h_answer for each in standing.captures] or [ORDER],
        CredRevReqTBS: [each.h_answer for each in standing.credits] or [ORDER],
    }
    [kind] = chance.choices(KINDS, weights=(4, 2, 1, 4, 3))  # a reversed authorisation ends everything
    h_answer = chance.choice(follows[kind])
    known = standing.capture(h_answer) or standing.credit(h_answer)
    whole = known.amount if known is not None else standing.authorised - standing.captured
    return asked(kind, h_answer, chance.choice([whole, whole // 2, whole + 1, standing.authorised - 1, 1]))


def wild(chance: random.Random, answers: list[bytes]) -> SettlingReq:
    """A request of whatever kind and amount, that follows whatever answer there ever was, or none."""
    return asked(chance.choice(KINDS), chance.choice(answers), chance.randint(0, APPROVED + 1))


def play(seed: int, *, sale: bool) -> Counter[type[SettlingReq]]:
    """A life of an order, judged step by step; returns how many requests of each kind were approved in it."""
    reached: Counter[type[SettlingReq]] = Counter()
    chance, standing, plain = random.Random(seed), opened(sale=sale), Plain(sale)
    answers, net = [ORDER, sha256(b"nobody's")], APPROVED if sale else 0
    for step in range(40):
        body = wild(chance, answers) if chance.random() < 0.2 else likely(chance, standing)
        try:
            check_against_book(body, standing)
        except ProtocolError:
            assert not plain.has_room(body), "what there is room for is not refused"
            continue
        assert plain.has_room(body), "what there is no room for is refused"
        moved = standing.moved(body)
        working = standing.taken_in(bytes([step]) * 20, sha256(bytes([step])))
        with pytest.raises(ProtocolError):
            check_against_book(body, working)
        if chance.random() < 0.2:
            standing = working.concluded(body, None)
            continue
        h_approval = sha256(b"approval" + bytes([step]))
        standing = working.concluded(body, h_approval)
        plain.approvals.append((h_approval, body))
        answers.append(h_approval)
        reached[type(body)] += 1
        net += moved[0].sign * moved[1] if moved is not None else 0
        assert 0 <= standing.refunded <= standing.captured <= standing.authorised <= APPROVED
        assert standing.authorised == plain.authorised
        assert {each.h_answer: each.amount for each in standing.captures} == {
            h: amount for h, amount in plain.captures.items() if amount
        }
        assert {each.h_answer: each.amount for each in standing.credits} == plain.credits
        assert net == standing.captured - standing.refunded, "what batches count is what moved"
    return reached


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), sale=st.booleans())
def test_no_sequence_of_requests_breaks_the_order_of_the_sums(seed: int, sale: bool) -> None:
    play(seed, sale=sale)


def test_every_kind_of_request_occurs_in_the_sequences() -> None:
    reached = sum((play(seed, sale=seed % 2 == 0) for seed in range(150)), Counter())
    assert all(reached[kind] >= 20 for kind in KINDS), reached


@given(st.sampled_from(KINDS), st.integers(0, APPROVED + 1), st.sampled_from([ORDER, sha256(b"other")]))
def test_an_authorisation_that_the_gateway_took_back_is_followed_by_nothing(
    kind: type[SettlingReq], amount: int, h_answer: bytes
) -> None:
    with pytest.raises(ProtocolError):
        check_against_book(asked(kind, h_answer, amount), replace(opened(sale=False), authorised=0))


def test_a_reversal_of_what_nothing_was_captured_of_is_no_entry() -> None:
    body = asked(AuthRevReqTBS, ORDER, 40)
    assert opened(sale=False).moved(body) is None
    assert opened(sale=True).moved(body) == (EntryKind.SALE_REVERSAL, 60)


CAPTURE = Capture(sha256(b"capture"), 60)


@pytest.mark.parametrize(
    "wrong",
    [
        {"authorised": -1},
        {"authorised": APPROVED + 1},
        {"authorised": 59, "captures": (CAPTURE,)},
        {"captures": (Capture(ORDER, 0),)},
        {"captures": (CAPTURE, replace(CAPTURE, h_answer=ORDER))},
        {"captures": (CAPTURE,), "credits": (Credit(bytes(32), CAPTURE.h_answer, 61),)},
        {"captures": (CAPTURE,), "credits": (Credit(bytes(32), CAPTURE.h_answer, 0),)},
        {"captures": (CAPTURE,), "credits": (Credit(bytes(32), CAPTURE.h_answer, -1),)},
        {"captures": (CAPTURE,), "credits": (Credit(bytes(32), ORDER, 1),)},
    ],
    ids=str,
)
def test_a_book_that_does_not_add_up_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="refunded"):
        replace(opened(sale=False), **wrong)
