"""Dual control as invariants over random histories, on a real database.

A history is any sequence of requests, approvals by any hands over any request, rejections, time that passes, tokens
that are away, processes that are killed in the middle of an operation, and restarts. Whatever the history, whenever an
operation is executed the rules below hold, written here from the policy's text; they share no code with
`decide_operation`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cps.decision import Choice
from hsm_service.operation_docket import Approving, Docket, Grant
from hsm_service.operation_info import ApprovalNeeded
from hsm_service.operation_request import KeyOperation, OperationRequest
from hsm_service.operation_store import OperationState, OperationStore
from hsm_service.operations import Executor, Operations
from pki.path import Trust
from runtime.database import open_database
from runtime.problems import Problem
from statements.published import founding_only
from tests.support.key_officers import HOUR, KeyOfficers
from tests.support.pki_factory import NOW, Credential

NAMES = ("key-a", "key-b")
REQUESTERS = ("service:operator", "officer:p-1")
PERSONS = ("p-1", "p-2", "p-3", "p-1", "p-4", "p-5")
"""Whose hands there are: p-1 has two certificates, p-4 is a vetting officer, p-5 is revoked."""
RIGHTFUL = frozenset({"p-1", "p-2", "p-3"})


class Killed(BaseException):
    """The process dies here."""


@cache
def office() -> tuple[KeyOfficers, tuple[Credential, ...], Trust]:
    officers = KeyOfficers()
    hands = tuple(
        officers.officer(person, "vetting_officer" if person == "p-4" else "security_officer") for person in PERSONS
    )
    officers.pki.revoke(hands[-1])
    trust = officers.pki.trust()
    return officers, hands, trust


@dataclass(frozen=True)
class Signed:
    """An approval that was taken in: by whom, of which request, until when it counts."""

    person: str
    request: str
    until: datetime


class DualControl(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.officers, self.hands, self.trust = office()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.now = NOW
        self.fate = "done"
        self.asked: dict[str, tuple[str, Mapping[str, Any], datetime]] = {}
        self.signed: list[Signed] = []
        self.rejected: set[str] = set()
        self.begun: Counter[str] = Counter()
        self.done: set[str] = set()
        self.store = self.operations = None  # type: ignore[assignment]
        self.open()

    def open(self) -> None:
        self.store = OperationStore(open_database(self.folder / "keys.db"))
        docket = Docket(
            self.store,
            Approving(lambda: self.trust),
            founding_only(),
            record=lambda entry: None,
            clock=lambda: self.now,
        )
        self.operations = Operations(docket)
        self.operations.provide(KeyOperation.GENERATE, Executor(self.execute_key, self.was_done))
        self.operations.resume()

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    # -- the operation, which looks at what it is given ----------------------------------------------------------------

    def execute_key(self, requester: str, parameters: Mapping[str, Any], grant: Grant) -> dict[str, Any]:
        request = grant.request
        assert request is not None
        asked_by, asked_for, expires = self.asked[request]
        assert (requester, parameters) == (asked_by, asked_for), "exactly what was asked"
        assert self.now < expires, "never after expiry"
        assert request not in self.done, "never twice"
        assert request not in self.rejected, "never against a rejection"
        who = {
            each.person
            for each in self.signed
            if each.request == request and self.now < each.until and each.person in RIGHTFUL
        }
        who.discard(asked_by.removeprefix("officer:"))
        assert len(who) >= 2, "two different persons, neither of them who asked"
        named = grant.fields["approved_by"]
        assert isinstance(named, list)
        assert {each["person"] for each in named if isinstance(each, dict)} == who, "the record names them"
        fate, self.fate = self.fate, "done"
        self.begun[request] += 1
        if fate == "away":
            raise Problem(503, "token-unavailable", "away")
        if fate == "killed before":
            raise Killed
        self.done.add(request)
        if fate == "killed after":
            raise Killed
        return {"made": asked_for["name"]}

    def was_done(self, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        found = [each for each in self.done if self.asked[each][1] == parameters and self.state(each) == "EXECUTING"]
        return {"made": parameters["name"]} if found else None

    def state(self, request: str) -> str:
        stored = self.store.find(request)
        assert stored is not None
        return stored.state.value

    @initialize()
    def somebody_asks(self) -> None:
        self.ask(NAMES[0], REQUESTERS[0])
        self.ask(NAMES[0], REQUESTERS[1])

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), requester=st.sampled_from(REQUESTERS))
    def ask(self, name: str, requester: str) -> None:
        parameters = {"name": name, "template": "merchant-signing-ec"}
        try:
            self.operations.ask(KeyOperation.GENERATE, requester, parameters)
            raise AssertionError("granted without approval")
        except ApprovalNeeded as needed:
            info = needed.operation
            assert info.state in {"PENDING", "APPROVED"}
            self.asked.setdefault(info.id, (requester, parameters, datetime.fromisoformat(info.expires)))
        except Problem as problem:
            if problem.type != "operation-decided":
                raise

    @rule(
        hands=st.lists(st.sampled_from([1, 2, 0, 3, 4, 5]), min_size=1, max_size=4),
        over=st.integers(0, 3),
        elsewhere=st.sampled_from([0, 0, 0, 0, 1]),
        reject=st.integers(0, 14).map(lambda n: n == 7),
        hours=st.sampled_from([24, 1, 100]),
        fate=st.sampled_from(["done", "done", "away", "killed before", "killed after"]),
    )
    def approve(self, hands: list[int], over: int, elsewhere: int, reject: bool, hours: int, fate: str) -> None:
        """Hands sign the request `over` and hand that in, now and then for another request."""
        ids = list(self.asked)
        if ids:
            signed_id, given_id = ids[over % len(ids)], ids[(over + elsewhere) % len(ids)]
            for hand in hands:
                self.hand_in(hand, signed_id, given_id, Choice.REJECT if reject else Choice.APPROVE, hours, fate)

    def hand_in(self, hand: int, signed_id: str, given_id: str, choice: Choice, hours: int, fate: str) -> None:
        request, until = self.request(signed_id), self.now + hours * HOUR
        approval = self.officers.approve(request, self.hands[hand], choice=choice, date=self.now, expires=until)
        mark = Signed(PERSONS[hand], signed_id, self.now + min(hours, 24) * HOUR)
        fits = signed_id == given_id and choice is Choice.APPROVE
        if fits:
            self.signed.append(mark)  # it may execute at once
        self.fate, before = fate, self.state(given_id)
        try:
            self.operations.approve("officer:p-2", given_id, approval)
        except Killed:
            self.restart()
        except Problem as problem:
            if problem.status != 503 and fits:
                self.signed.remove(mark)
        if before != "REJECTED" and self.state(given_id) == "REJECTED":
            self.rejected.add(given_id)

    @rule(which=st.integers(0, 3), fate=st.sampled_from(["done", "away", "killed before", "killed after"]))
    def execute(self, which: int, fate: str) -> None:
        ids = list(self.asked)
        if not ids:
            return
        self.fate = fate
        try:
            self.operations.execute("officer:p-2", ids[which % len(ids)])
        except Killed:
            self.restart()
        except Problem as problem:
            if problem.status not in {409, 503}:
                raise

    @rule(hours=st.sampled_from([1, 2, 12, 1, 25, 2, 1, 24 * 8]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        # The CA publishes as it does; otherwise nothing at all would count a day later.
        self.trust = _trust(self.now)

    @rule()
    def restart(self) -> None:
        self.fate = "done"
        self.store.close()
        self.open()

    def request(self, request_id: str) -> OperationRequest:
        stored = self.store.find(request_id)
        assert stored is not None
        return stored.request

    @invariant()
    def what_was_done_is_done_and_nothing_else_is(self) -> None:
        for stored in self.store.all():
            request_id = stored.request.id
            assert (stored.state is OperationState.DONE) == (request_id in self.done)
            assert stored.state is not OperationState.EXECUTING, "nothing stays half-done"
            assert self.asked[request_id][0] == stored.request.requester


@cache
def _trust(now: datetime) -> Trust:
    pki = office()[0].pki
    return pki.trust(now=now)


DualControl.TestCase.settings = settings(
    max_examples=60, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestDualControl = DualControl.TestCase
