"""When a token is asked, and when it is tried again."""

from __future__ import annotations

from hsm_service.breaker import Breaker, State


def test_a_token_is_asked_only_after_its_trial_went_well() -> None:
    breaker = Breaker()
    states = [breaker.state]
    breaker.try_again()
    states.append(breaker.state)
    breaker.close()
    states.append(breaker.state)
    breaker.open()
    states.append(breaker.state)
    assert states == [State.OPEN, State.HALF_OPEN, State.CLOSED, State.OPEN]


def test_the_back_off_doubles_up_to_its_limit() -> None:
    breaker = Breaker(first=0.1, longest=2.0)
    assert [breaker.open() for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_token_that_logs_in_but_serves_nobody_is_not_tried_faster() -> None:
    breaker = Breaker(first=0.1, longest=2.0)
    delays = []
    for _ in range(3):
        delays.append(breaker.open())
        breaker.try_again()
        breaker.close()
    assert delays == [0.1, 0.2, 0.4]
    breaker.succeeded()
    assert breaker.open() == 0.1


def test_failures_count_only_in_a_row() -> None:
    breaker = Breaker(failures=3)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed(), breaker.failed()] == [False, False, True]
