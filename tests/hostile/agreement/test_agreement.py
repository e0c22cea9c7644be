"""Agreement (i) to (v) in the code itself: any order of events, any message the attacker can make, one dishonest party.

A state machine of Hypothesis plays the attacker (`attack`) against the real parties (`site`); after each move the
properties of safety are asked for, at the end all of them (`properties`). Runs are derandomised, so the suite plays the
same ones each time; `KWBP_AGREEMENT_EXAMPLES=5000` plays others, and more of them.

    KWBP_AGREEMENT_EXAMPLES=5000 .venv/bin/python -m pytest -n0 tests/hostile/agreement/test_agreement.py
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.hostile.agreement.attack import PAUSES, STEPS, Attack
from tests.hostile.agreement.forging import SIGNS, Draw
from tests.hostile.agreement.properties import Dishonest, check_always, finish
from tests.hostile.agreement.site import Site

pytestmark = pytest.mark.slow

_EXAMPLES = int(os.environ.get("KWBP_AGREEMENT_EXAMPLES", "0"))
_choices = st.integers(0, 255)
_plans = st.integers(0, 7)
_MOST_PURCHASES = 5


def _has_open_invoices(machine: Any) -> bool:
    return any(not each.ordered for each in machine.site.bought)


def _has_orders(machine: Any) -> bool:
    return any(each.ordered for each in machine.site.bought)


def _has_calls(machine: Any) -> bool:
    return bool(machine.site.network.calls)


def _has_frames(machine: Any) -> bool:
    return bool(machine.site.line.requests)


class AgreementMachine(RuleBasedStateMachine):
    """One run. `dishonest` is set by a subclass for each kind."""

    dishonest = Dishonest.NOBODY

    def __init__(self) -> None:
        super().__init__()
        self.attack: Attack | None = None

    @initialize(latency=st.sampled_from((0.0, 0.0, 0.05)), first=st.booleans())
    def begin(self, latency: float, first: bool) -> None:
        self.site = Site(latency=latency)
        self.attack = Attack(self.site, self.dishonest)
        self.moves = self.attack
        for buyer in (0, 1):  # something to attack from the first move on
            self.moves.buy(buyer, buyer if first else 0)
        self.moves.order(0)
        self.moves.order(0)

    def _done(self) -> None:
        check_always(self.site, self.dishonest)

    def teardown(self) -> None:
        if self.attack is not None:
            try:
                finish(self.site, self.dishonest)
            finally:
                self.site.close()

    # --- purchases

    @precondition(lambda self: len(self.site.bought) < _MOST_PURCHASES)
    @rule(buyer=_choices, merchant=_choices, kind=_plans, choice=_choices)
    def buy(self, buyer: int, merchant: int, kind: int, choice: int) -> None:
        self.moves.buy(buyer, merchant, kind, choice)
        self._done()

    @precondition(_has_open_invoices)
    @rule(number=_choices, kind=_plans, choice=_choices)
    def order(self, number: int, kind: int, choice: int) -> None:
        self.moves.order(number, kind, choice)
        self._done()

    @precondition(_has_orders)
    @rule(number=_choices, kind=_plans, choice=_choices)
    def resume(self, number: int, kind: int, choice: int) -> None:
        self.moves.resume(number, kind, choice)
        self._done()

    # --- between merchants and gateway

    @precondition(_has_calls)
    @rule(number=_choices, passes=st.booleans())
    def deliver(self, number: int, passes: bool) -> None:
        self.moves.deliver(number, passes=passes)
        self._done()

    @precondition(_has_calls)
    @rule(number=_choices)
    def drop(self, number: int) -> None:
        self.moves.drop(number)
        self._done()

    @precondition(_has_calls)
    @rule(number=_choices, choice=_choices)
    def answer(self, number: int, choice: int) -> None:
        self.moves.answer(number, choice)
        self._done()

    @rule(choice=_choices, at=st.integers(0, 3))
    def replay(self, choice: int, at: int) -> None:
        self.moves.replay(choice, at)
        self._done()

    # --- the line to the switch

    @precondition(_has_frames)
    @rule(number=_choices, keep=st.booleans(), passes=st.booleans())
    def pass_request(self, number: int, keep: bool, passes: bool) -> None:
        self.moves.pass_request(number, keep=keep, passes=passes)
        self._done()

    @rule(number=_choices, what=st.integers(0, 3))
    def disturb_the_line(self, number: int, what: int) -> None:
        if what == 0:
            self.moves.drop_request(number)
        elif what == 1:
            self.moves.replay_request(number)
        elif what == 2:
            self.moves.pass_answer(number)
        else:
            self.moves.cut_the_line()
        self._done()

    @precondition(_has_frames)
    @rule(number=_choices, rc=_choices)
    def forge_on_the_line(self, number: int, rc: int) -> None:
        self.moves.forge_on_the_line(number, rc)
        self._done()

    # --- forging

    @precondition(lambda self: bool(SIGNS[self.dishonest]))
    @rule(data=st.data(), at=st.integers(0, 3))
    def forge(self, data: Any, at: int) -> None:
        for _ in range(3):
            self.moves.forge(_draw(data), at)
        self._done()

    @rule(data=st.data(), at=st.integers(0, 3))
    def mix(self, data: Any, at: int) -> None:
        self.moves.mix(_draw(data), at)
        self._done()

    @precondition(lambda self: self.dishonest is Dishonest.GATEWAY)
    @rule(data=st.data(), what=st.integers(0, 2))
    def gateway_of_its_own(self, data: Any, what: int) -> None:
        if what == 2:
            self.moves.reseal(_draw(data))
        else:
            self.moves.certify(bool(what))
        self._done()

    # --- time and power

    @rule(seconds=st.sampled_from(PAUSES))
    def wait(self, seconds: float) -> None:
        self.moves.wait(seconds)
        self._done()

    @rule(party=st.integers(0, 2))
    def kill(self, party: int) -> None:
        self.moves.kill(party)
        self._done()

    @rule(step=st.integers(0, len(STEPS) - 1))
    def arm(self, step: int) -> None:
        self.moves.arm(step)
        self._done()

    @rule(party=st.integers(0, 2), away=st.booleans())
    def keep_from_repository(self, party: int, away: bool) -> None:
        self.moves.keep_from_repository(party, away=away)
        self._done()

    @precondition(lambda self: _has_calls(self) or _has_frames(self))
    @rule(rounds=st.integers(1, 4))
    def let_through(self, rounds: int) -> None:
        self.moves.let_through(rounds)
        self._done()


def _draw(data: Any) -> Draw:
    return lambda below: int(data.draw(st.integers(0, below - 1)))


@pytest.mark.parametrize("dishonest", list(Dishonest))
def test_agreement_with_one_dishonest_party(dishonest: Dishonest) -> None:
    """Whatever the network does and whoever of the five is dishonest, (i) to (v) hold of the honest."""

    class Machine(AgreementMachine):
        pass

    Machine.dishonest = dishonest
    profile = settings(
        max_examples=_EXAMPLES or 5,
        stateful_step_count=40 if _EXAMPLES else 25,
        derandomize=not _EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(Machine, settings=profile)
