"""What a request is judged by: the lists in force after it came, asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from ca.errors import StatusError
from pki.crl import CrlSet
from pki.path import Trust
from ra.one_look import EachRequest, OneLook
from tests.support.pki_factory import NOW

SECOND = timedelta(seconds=1)


class Repository:
    """Counts how often it is asked, and answers with another object each time."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    def trust(self, _now: datetime) -> Trust:
        self.asked += 1
        if self.away:
            raise StatusError("the repository does not answer", clause="CPS 4.9.6")
        return Trust((), (), CrlSet([]))


@pytest.fixture
def repository() -> Repository:
    return Repository()


def in_a_request(act: Callable[[], object], kind: str = "http") -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.to_thread(act)  # as the application's endpoints run

    async def unused(*_message: Any) -> Any:
        raise AssertionError("nothing is read or sent here")

    asyncio.run(EachRequest(app)({"type": kind}, unused, unused))


def test_a_request_sees_the_same_lists_throughout(repository: Repository) -> None:
    look = OneLook(repository.trust)
    seen: list[Trust] = []
    in_a_request(lambda: seen.extend([look(NOW), look(NOW), look(NOW + SECOND)]))
    assert repository.asked == 1
    assert seen[0] is seen[1] is seen[2]


def test_each_request_asks_for_itself(repository: Repository) -> None:
    look = OneLook(repository.trust)
    seen: list[Trust] = []
    for _ in range(2):
        in_a_request(lambda: seen.append(look(NOW)))
    assert repository.asked == 2
    assert seen[0] is not seen[1]


@pytest.mark.parametrize("later", [2 * SECOND, -SECOND])
def test_a_request_that_lasts_asks_again(repository: Repository, later: timedelta) -> None:
    look = OneLook(repository.trust)
    in_a_request(lambda: (look(NOW), look(NOW + later)))
    assert repository.asked == 2


def test_the_second_counts_from_the_answer_and_not_from_the_last_question(repository: Repository) -> None:
    look = OneLook(repository.trust)
    in_a_request(lambda: [look(NOW + number * SECOND) for number in range(3)])
    assert repository.asked == 2


def test_what_no_request_asks_for_is_asked_each_time(repository: Repository) -> None:
    look = OneLook(repository.trust)
    look(NOW)
    look(NOW)
    in_a_request(lambda: (look(NOW), look(NOW)), kind="lifespan")
    assert repository.asked == 4


def test_no_answer_is_not_remembered(repository: Repository) -> None:
    look = OneLook(repository.trust)
    repository.away = True

    def act() -> None:
        with pytest.raises(StatusError):
            look(NOW)
        repository.away = False
        look(NOW)

    in_a_request(act)
    assert repository.asked == 2


def test_two_sources_are_not_taken_for_one_another(repository: Repository) -> None:
    one, other = OneLook(repository.trust), OneLook(repository.trust)
    in_a_request(lambda: (one(NOW), other(NOW)))
    assert repository.asked == 2
