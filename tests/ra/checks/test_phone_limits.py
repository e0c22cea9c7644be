"""How many messages a number gets in a day holds, however many cases ask at the same moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from cps.check_model import CodeCheck
from ra.checks.phone import PhoneCodes
from ra.errors import RaError, WrongStateError
from ra.store import Store
from runtime.database import open_database
from runtime.secrets import Secret
from tests.support.cps_cases import Office
from tests.support.databases import DATABASES, ra_database
from tests.support.lost_replica import NOW, draft

PHONE = "09121234567"


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = open_database(ra_database(request.param, tmp_path))
    yield made
    made.dispose()


@pytest.fixture
def rule(office: Office) -> CodeCheck:
    found = office.pack.checks["phone_code"]
    assert isinstance(found, CodeCheck)
    return found


class Asking:
    """Cases that ask for a code to one number; those that passed the limits meet before any is counted."""

    def __init__(self, engine: Engine, rule: CodeCheck, cases: int) -> None:
        store = Store(engine)
        self.cases = [f"case-{number}" for number in range(cases)]
        for each in self.cases:
            store.open(draft(each))
        self._engine = engine
        self._met = threading.Barrier(2)
        self._meet = False
        self.now = NOW
        self._codes = PhoneCodes(
            engine, None, lambda: rule, key=Secret(bytes(32)), rng=self._random, clock=lambda: self.now
        )

    def _random(self, count: int) -> bytes:
        if self._meet:
            with suppress(threading.BrokenBarrierError):  # whoever is kept out does not come
                self._met.wait(timeout=0.3)
        return os.urandom(count)

    def give(self, case: str) -> RaError | None:
        try:
            self._codes.give(case, PHONE)
        except RaError as error:
            return error
        return None

    def at_once(self, cases: list[str]) -> list[RaError | None]:
        self._meet = True
        told: list[RaError | None] = []
        threads = [threading.Thread(target=lambda case=case: told.append(self.give(case))) for case in cases]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return told

    @property
    def sent(self) -> int:
        with self._engine.begin() as db:
            return int(db.execute(text("SELECT count(*) FROM phone_sends")).scalar_one())


def test_of_many_that_ask_at_once_no_more_get_a_message_than_the_day_has(engine: Engine, rule: CodeCheck) -> None:
    asking = Asking(engine, rule, rule.daily_sends + 3)
    assert [asking.give(each) for each in asking.cases[: rule.daily_sends - 1]] == [None] * (rule.daily_sends - 1)
    told = asking.at_once(asking.cases[rule.daily_sends - 1 :])
    assert told.count(None) == 1
    refused = [each for each in told if each is not None]
    assert {type(each) for each in refused} == {WrongStateError}
    assert {str(each) for each in refused} == {"no more codes are sent to this number today"}
    assert asking.sent == rule.daily_sends


def test_a_refusal_keeps_nobody_from_asking_the_next_day(engine: Engine, rule: CodeCheck) -> None:
    asking = Asking(engine, rule, rule.daily_sends + 1)
    told = [asking.give(each) for each in asking.cases]
    assert told.count(None) == rule.daily_sends
    asking.now += timedelta(days=1)
    assert asking.give(asking.cases[-1]) is None
