"""The life of keys over random histories: nothing happens that the table lacks, whatever is asked in whatever order."""

from __future__ import annotations

import contextlib
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from hsm_service.errors import KeyExists
from hsm_service.key_states import TRANSITIONS, Change, KeyState, after
from hsm_service.key_versions import RegisteredKey, Standing, standing, version_in_use
from hsm_service.registry import Registry
from runtime.problems import Problem
from tests.support.pki_factory import NOW

EVERY = list(itertools.product(KeyState, Change))


@pytest.mark.parametrize(("state", "change"), EVERY, ids=lambda each: each.value)
def test_a_change_leads_where_the_table_says_or_nowhere(state: KeyState, change: Change) -> None:
    if (state, change) in TRANSITIONS:
        assert after(state, change) is TRANSITIONS[state, change]
        return
    with pytest.raises(Problem) as caught:
        after(state, change)
    assert (caught.value.status, caught.value.type) == (409, "key-state")


def test_nothing_leaves_destroyed_and_nothing_becomes_pending() -> None:
    assert not any(start is KeyState.DESTROYED for start, _change in TRANSITIONS)
    assert KeyState.PENDING not in TRANSITIONS.values()


def test_a_key_is_destroyed_only_from_a_state_that_can_be_taken_back() -> None:
    assert [start for (start, _change), end in TRANSITIONS.items() if end is KeyState.DESTROYED] == [
        KeyState.DESTROY_SCHEDULED
    ]
    assert TRANSITIONS[KeyState.DESTROY_SCHEDULED, Change.KEEP] is KeyState.DISABLED


def _row(version: int, **changes: Any) -> RegisteredKey:
    fields: dict[str, Any] = {
        "name": "key",
        "version": version,
        "token": "ca",
        "cka_id": bytes([version]),
        "template": "issuing-ca",
        "owner": None,
        "state": KeyState.ENABLED,
        "public_key": b"spki",
        "created": NOW,
        "activates_at": NOW,
        "chain": (b"certificate",),
    }
    return RegisteredKey(**{**fields, **changes})


@pytest.mark.parametrize(
    ("second", "in_use"),
    [
        ({}, 2),
        ({"activates_at": NOW + timedelta(seconds=1)}, 1),
        ({"activates_at": None}, 1),
        ({"chain": ()}, 1),
        ({"chain": (), "public_key": None}, 2),
        ({"state": KeyState.PENDING}, 1),
        ({"state": KeyState.DISABLED}, 2),
        ({"state": KeyState.DESTROYED}, 2),
    ],
)
def test_the_newest_version_that_has_begun_is_in_use(second: dict[str, Any], in_use: int) -> None:
    rows = [_row(1, chain=()), _row(2, **second)]
    found = version_in_use(rows, NOW)
    assert found is not None
    assert found.version == in_use
    expected = [Standing.IN_USE, Standing.COMING] if in_use == 1 else [Standing.RETIRED, Standing.IN_USE]
    assert [standing(row, found) for row in rows] == expected


def test_before_the_first_version_begins_none_is_in_use() -> None:
    assert version_in_use([], NOW) is None
    assert version_in_use([_row(1, activates_at=NOW + timedelta(hours=1))], NOW) is None


class Life(RuleBasedStateMachine):
    """One key in a registry that is closed and opened again at any time; the clock only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        self.registry = self._open()
        self.ids = itertools.count(1)
        self.numbers: list[int] = []
        self.states: dict[int, KeyState] = {}
        self.latest_in_use = 0

    def _open(self) -> Registry:
        return Registry(self.engine, clock=lambda: self.now)

    def _id(self) -> bytes:
        return next(self.ids).to_bytes(16, "big")

    @initialize()
    def reserved(self) -> None:
        self.registry.reserve("key", template="issuing-ca", owner=None, token="ca", cka_id=self._id(), now=self.now)
        self.numbers.append(1)

    @rule(wait=st.integers(0, 5))
    def rotated(self, wait: int) -> None:
        newest = self.registry.versions("key")[0]
        row = self.registry.reserve_next(
            "key", token="ca", cka_id=self._id(), now=self.now, activates_at=self.now + timedelta(days=wait)
        )
        if newest.state is KeyState.PENDING:
            assert (row.version, row.cka_id) == (newest.version, newest.cka_id)
        else:
            assert row.version not in self.numbers
            assert row.version == max(self.numbers) + 1
            self.numbers.append(row.version)

    @rule(change=st.sampled_from([each for each in Change if each is not Change.MADE]), data=st.data())
    def changed(self, change: Change, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(self.numbers))
        before = self.registry.find("key", version)
        assert before is not None
        if (before.state, change) in TRANSITIONS:
            assert self.registry.change("key", version, change).state is TRANSITIONS[before.state, change]
        else:
            with pytest.raises(Problem):
                self.registry.change("key", version, change)
            assert self.registry.find("key", version) == before

    @rule()
    def made(self) -> None:
        newest = self.registry.versions("key")[0]
        with contextlib.suppress(Problem):
            self.registry.made("key", newest.version, b"spki")
            assert newest.state is KeyState.PENDING

    @rule(data=st.data())
    def certified(self, data: st.DataObject) -> None:
        self.registry.attach("key", data.draw(st.sampled_from(self.numbers)), [b"certificate"])

    @rule(days=st.integers(0, 3))
    def time_passed(self, days: int) -> None:
        self.now += timedelta(days=days, seconds=1)

    @rule()
    def reopened(self) -> None:
        before = self.registry.all()
        self.registry = self._open()
        assert self.registry.all() == before

    @rule()
    def made_under_the_same_name(self) -> None:
        newest = self.registry.versions("key")[0]
        if newest.state is not KeyState.PENDING:
            with pytest.raises(KeyExists):
                self.registry.reserve(
                    "key", template="issuing-ca", owner=None, token="ca", cka_id=self._id(), now=self.now
                )

    @invariant()
    def every_step_is_in_the_table(self) -> None:
        for row in self.registry.all():
            before = self.states.get(row.version, KeyState.PENDING)
            if row.state is not before:
                assert row.state in {end for (start, _change), end in TRANSITIONS.items() if start is before}
            self.states[row.version] = row.state

    @invariant()
    def no_row_is_ever_lost(self) -> None:
        assert [row.version for row in self.registry.all()] == sorted(self.numbers)

    @invariant()
    def one_version_is_in_use_and_no_older_one_comes_back(self) -> None:
        in_use = self.registry.in_use("key")
        rows = self.registry.versions("key")
        standings = [standing(row, in_use) for row in rows]
        assert standings.count(Standing.IN_USE) == (in_use is not None)
        if in_use is not None:
            assert in_use.version >= self.latest_in_use
            self.latest_in_use = in_use.version


Life.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_the_life_of_a_key = Life.TestCase
