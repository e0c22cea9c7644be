"""The ways between states: the table is closed, and the workflow takes no other."""

from __future__ import annotations

import pytest

from ra.records import Passage
from ra.states import OPEN, Action, State, allowed, leads
from tests.support.ra_world import OPERATOR, RaWorld

ENDS = {State.REVOKED, State.REJECTED, State.WITHDRAWN, State.EXPIRED}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_nothing_leads_out_of_an_end(end: State) -> None:
    assert not any(allowed(action, end) for action in Action if action is not Action.OPEN)


def test_every_open_state_can_be_withdrawn_from_and_expires() -> None:
    for state in State:
        assert allowed(Action.WITHDRAW, state) == allowed(Action.EXPIRE, state) == (state in OPEN)


def test_only_the_ca_makes_an_application_issued_and_only_an_approved_one_gets_there() -> None:
    ways = [(action, before) for action in Action for before in State if _leads(action, before, State.ISSUED)]
    assert ways == [(Action.STORE, State.ISSUING)]
    ways = [(action, before) for action in Action for before in State if _leads(action, before, State.ISSUING)]
    assert ways == [(Action.ISSUE, State.APPROVED), (Action.ISSUE, State.ISSUE_FAILED)]
    ways = [(action, before) for action in Action for before in State if _leads(action, before, State.APPROVED)]
    assert {action for action, _before in ways} == {Action.DECIDE, Action.RELEASE}


def _leads(action: Action, before: State, after: State) -> bool:
    return action is not Action.OPEN and leads(action, before, after)


def test_a_way_that_is_not_in_the_table_is_a_fault_of_ours(world: RaWorld) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    with pytest.raises(AssertionError, match="does not lead from DRAFT to ISSUED"):
        world.workflow.desk.pass_on(application, OPERATOR, Passage(Action.STORE, State.ISSUED))
    assert world.store.application(application.id) == application
