"""How the status of a certificate may change: every transition, and what holds after any sequence of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cps.decision import Kind
from cps.model import ORDER_REASONS, OrderReason
from cps.rules import Rule
from cps.status import Objection, Standing, State, change

T0 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HELD = Standing(State.HELD, "certificateHold", T0)
RELEASED = Standing(State.RELEASED, "removeFromCRL", T0)
REVOKED = Standing(State.REVOKED, "superseded", T0)


def after(standing: Standing | None, reason: OrderReason, *, now: datetime = T0 + DAY) -> Standing | Objection:
    return change(standing, reason, ordered_at=now, now=now)


@pytest.mark.parametrize(
    ("before", "reason", "state", "since"),
    [
        pytest.param(None, "certificateHold", State.HELD, T0 + DAY, id="good-is-suspended"),
        pytest.param(None, "superseded", State.REVOKED, T0 + DAY, id="good-is-revoked"),
        pytest.param(HELD, "removeFromCRL", State.RELEASED, T0 + DAY, id="held-is-released"),
        pytest.param(HELD, "keyCompromise", State.REVOKED, T0, id="held-is-revoked-as-of-its-suspension"),
        pytest.param(RELEASED, "certificateHold", State.HELD, T0 + DAY, id="released-is-suspended-again"),
        pytest.param(RELEASED, "keyCompromise", State.REVOKED, T0 + DAY, id="released-is-revoked"),
    ],
)
def test_a_lawful_change(before: Standing | None, reason: OrderReason, state: State, since: datetime) -> None:
    assert after(before, reason) == Standing(state, reason, since)


@pytest.mark.parametrize(
    ("before", "reason", "why"),
    [
        pytest.param(REVOKED, "removeFromCRL", "for good", id="revoked-comes-back"),
        pytest.param(REVOKED, "certificateHold", "for good", id="revoked-is-suspended"),
        pytest.param(REVOKED, "keyCompromise", "for good", id="revoked-twice"),
        pytest.param(None, "removeFromCRL", "not suspended", id="good-is-released"),
        pytest.param(RELEASED, "removeFromCRL", "not suspended", id="released-twice"),
        pytest.param(HELD, "certificateHold", "suspended already", id="suspended-twice"),
    ],
)
def test_an_unlawful_change_says_why(before: Standing | None, reason: OrderReason, why: str) -> None:
    objection = after(before, reason)
    assert isinstance(objection, Objection)
    assert objection.rule is Rule.REV_STATE
    assert why in objection.message


@pytest.mark.parametrize(("before", "reason"), [(HELD, "removeFromCRL"), (RELEASED, "certificateHold")])
def test_an_order_that_was_held_back_is_out_of_date(before: Standing, reason: OrderReason) -> None:
    objection = change(before, reason, ordered_at=T0 - timedelta(seconds=1), now=T0 + DAY)
    assert isinstance(objection, Objection)
    assert "written before" in objection.message


def test_but_an_old_order_to_revoke_counts() -> None:
    assert change(HELD, "superseded", ordered_at=T0 - DAY, now=T0 + DAY) == Standing(State.REVOKED, "superseded", T0)


ORDERS = st.lists(st.tuples(st.sampled_from(ORDER_REASONS), st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(ORDERS)
def test_whatever_is_ordered(orders: list[tuple[OrderReason, int, int]]) -> None:
    """Revoked is for ever; only what is held is released; a refused order changes nothing; a hold gives its date on."""
    standing: Standing | None = None
    now = T0
    for reason, passed, held_back in orders:
        now += timedelta(hours=passed)
        result = change(standing, reason, ordered_at=now - timedelta(hours=held_back), now=now)
        if isinstance(result, Objection):
            continue
        assert standing is None or standing.state is not State.REVOKED
        if result.state is State.RELEASED:
            assert standing is not None
            assert standing.state is State.HELD
        held = standing is not None and standing.state is State.HELD
        if result.state is State.REVOKED and held and standing is not None:
            assert result.since == standing.since
        else:
            assert result.since == now
        assert (result.state, result.reason) == (
            {Kind.REVOKE: State.REVOKED, Kind.SUSPEND: State.HELD, Kind.RELEASE: State.RELEASED}[Kind.of(reason)],
            reason,
        )
        standing = result
