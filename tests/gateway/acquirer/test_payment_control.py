"""Who makes a payment file and who sends it, under every `dual_control` (`gateway.dual_control`)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.acquirer.payout import PaymentFile, PayoutState
from gateway.dual_control import DualControl
from runtime.problems import Problem
from tests.gateway.acquirer.books import Books
from tests.gateway.conftest import run
from tests.support.databases import gateway_database

CONSOLE, ONE, OTHER = "service:operator", "officer:officer-1", "officer:officer-2"
PERSONS = (CONSOLE, ONE, OTHER)
ALLOWED = {
    # makes the payouts, makes the file, sends it
    DualControl.OFFICERS: {(CONSOLE, ONE, OTHER), (CONSOLE, OTHER, ONE), (ONE, ONE, OTHER), (OTHER, OTHER, ONE)},
    DualControl.CONSOLE: {
        (payouts, file, sender)
        for payouts in PERSONS
        for file in PERSONS
        for sender in PERSONS
        if sender not in (payouts, file)
    },
    DualControl.OFF: {(payouts, file, sender) for payouts in PERSONS for file in PERSONS for sender in PERSONS},
}


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The rule is the same on each kind of database."""
    return gateway_database("sqlite", tmp_path)


def ready(books: Books, maker: str) -> None:
    books.sale()
    books.close()
    made, _ = run(books.acquirer.payouts.create(by=maker))
    assert len(made) == 1


def send(books: Books, made: PaymentFile, by: str) -> PayoutState:
    (payout,) = run(books.acquirer.payouts.sent(made.number, digest=made.digest, by=by))
    return payout.state


def refused(call: Callable[[], Any]) -> str:
    """By which rule."""
    with pytest.raises(Problem) as refusal:
        call()
    assert (refusal.value.status, refusal.value.clause) == (409, "CPS 5.2.2")
    return refusal.value.type


@pytest.mark.parametrize("setting", DualControl)
@pytest.mark.parametrize("payouts", PERSONS)
@pytest.mark.parametrize("file", PERSONS)
@pytest.mark.parametrize("sender", PERSONS)
def test_who_may_send(opened: Callable[..., Books], setting: DualControl, payouts: str, file: str, sender: str) -> None:
    books = opened(dual_control=setting)
    ready(books, payouts)
    if setting is DualControl.OFFICERS and file == CONSOLE:
        assert refused(lambda: run(books.acquirer.payouts.make_file(by=file))) == "officers-only"
        return
    made, _ = run(books.acquirer.payouts.make_file(by=file))
    if (payouts, file, sender) in ALLOWED[setting]:
        assert send(books, made, sender) is PayoutState.SENT
    else:
        assert refused(lambda: send(books, made, sender)) in ("officers-only", "same-person")


def test_what_was_made_at_the_console_before_is_withdrawn_and_made_anew(opened: Callable[..., Books]) -> None:
    lax = opened(dual_control=DualControl.CONSOLE)
    ready(lax, CONSOLE)
    made, _ = run(lax.acquirer.payouts.make_file(by=CONSOLE))
    lax.store.close()
    books = opened(dual_control=DualControl.OFFICERS)
    assert refused(lambda: send(books, made, ONE)) == "made-at-console"
    run(books.acquirer.payouts.withdraw(made.number, by=CONSOLE))
    books.clock.now += timedelta(seconds=1)
    anew, _ = run(books.acquirer.payouts.make_file(by=ONE))
    assert refused(lambda: send(books, anew, ONE)) == "same-person"
    assert send(books, anew, OTHER) is PayoutState.SENT
