"""What the commands of the acquirer's money say where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import httpx
import pytest
from pydantic import ValidationError

from cli import gateway_money
from gateway.acquirer.routes import DecisionBody

DAY = date(2026, 11, 23)


@pytest.fixture
def _empty_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose books are empty; what a real one answers is in tests/gateway/acquirer."""
    answers = httpx.MockTransport(lambda _: httpx.Response(200, json=[]))
    client = httpx.Client(transport=answers, base_url="http://gateway.invalid")
    monkeypatch.setattr(gateway_money, "existing", lambda: None)
    monkeypatch.setattr(gateway_money, "gateway_as", lambda *_: client)


@pytest.mark.usefixtures("_empty_books")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (lambda: gateway_money.differences(merchant="NOBODY"), "No such difference"),
        (lambda: gateway_money.differences(day=DAY), "No such difference"),
        (lambda: gateway_money.settlements(merchant="NOBODY"), "Nothing was paid to such a merchant"),
        (lambda: gateway_money.ledger(account="nobody"), "Nothing was ever booked"),
    ],
)
@pytest.mark.parametrize("language", ["en", "fa"])
def test_a_name_or_day_that_nobody_knows_is_said_to_be_unknown(
    command: Callable[[], None],
    told: str,
    language: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KWBP_LANG", language)
    command()
    said = capsys.readouterr().err
    assert said
    assert "kwbp gateway" in said
    assert (told in said) is (language == "en")


@pytest.mark.usefixtures("_empty_books")
def test_no_difference_at_all_is_good_news(capsys: pytest.CaptureFixture[str]) -> None:
    gateway_money.differences()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("excess", [10**18, -(10**18), 10**30])
def test_an_excess_that_no_database_can_hold_is_refused_at_the_door(excess: int) -> None:
    with pytest.raises(ValidationError):
        DecisionBody(decision="CORRECTED", excess=excess, reason="as the list says")
    assert DecisionBody(decision="CORRECTED", excess=-40_000, reason="as the list says").excess == -40_000
