"""Dual control, every setting with everybody who may do the first half and the second (`gateway.dual_control`)."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from audit.journal import Journal
from gateway.dual_control import DualControl
from gateway.errors import OrderCommandError
from gateway.operating.commands import OrderCommands
from gateway.order import OrderKey
from gateway.states import OrderState
from gateway.store import OrderStore
from runtime.settings import GatewaySettings
from tests.gateway.conftest import ACQUIRER, NOW, Clock, new_order, run

CONSOLE, ONE, OTHER = "service:operator", "officer:security-officer-1", "officer:security-officer-2"


async def failed(book: OrderStore) -> OrderKey:
    key = (await book.receive(new_order(1), NOW)).key
    await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="6037*0007", now=NOW)
    await book.sent(key, {3: "000000"}, NOW)
    await book.conclude(key, OrderState.UNKNOWN, NOW)
    queued = await book.queue_reversal(key, OrderState.UNKNOWN, "no answer", NOW)
    await book.give_up_reversal(queued, "13", NOW, "refused")
    return key


def test_without_a_word_of_the_settings_both_halves_are_officers() -> None:
    assert DualControl(GatewaySettings().dual_control) is DualControl.OFFICERS
    assert {GatewaySettings(dual_control=each.value).dual_control for each in DualControl} == set(DualControl)


# The second half of an outcome is on a route for officers alone.
@pytest.mark.parametrize("setting", DualControl)
@pytest.mark.parametrize(("first", "second"), list(product((CONSOLE, ONE), (ONE, OTHER))))
def test_who_ends_an_order_by_what_the_bank_told(
    book: OrderStore, tmp_path: Path, clock: Clock, setting: DualControl, first: str, second: str
) -> None:
    async def scenario(commands: OrderCommands) -> OrderState:
        key = await failed(book)
        await commands.state(key, OrderState.DEBITED, by=first, reason="as told")
        return (await commands.confirm(key, OrderState.DEBITED, by=second)).state

    expected = first != second and not (setting is DualControl.OFFICERS and first == CONSOLE)
    with Journal.open(tmp_path / "gateway.jsonl") as journal:
        commands = OrderCommands(book, journal, clock=clock, on_reversal=lambda: None, dual_control=setting)
        if expected:
            assert run(scenario(commands)) is OrderState.DEBITED
            return
        with pytest.raises(OrderCommandError) as refused:
            run(scenario(commands))
    assert refused.value.clause == "CPS 5.2.2"
    order = book.find(new_order(1).key)
    assert order is not None
    assert order.state is OrderState.REV_FAILED


def test_what_the_console_stated_before_is_confirmed_by_nobody(book: OrderStore, tmp_path: Path, clock: Clock) -> None:
    async def scenario(lax: OrderCommands, strict: OrderCommands) -> None:
        key = await failed(book)
        await lax.state(key, OrderState.DEBITED, by=CONSOLE, reason="as told")
        with pytest.raises(OrderCommandError, match="an outcome that an officer stated"):
            await strict.confirm(key, OrderState.DEBITED, by=ONE)
        await strict.withdraw(key, by=ONE)
        await strict.state(key, OrderState.DEBITED, by=ONE, reason="as told")
        assert (await strict.confirm(key, OrderState.DEBITED, by=OTHER)).state is OrderState.DEBITED

    with Journal.open(tmp_path / "gateway.jsonl") as journal:
        told: dict[str, Any] = {"clock": clock, "on_reversal": lambda: None}
        lax = OrderCommands(book, journal, **told, dual_control=DualControl.CONSOLE)
        run(scenario(lax, OrderCommands(book, journal, **told)))
