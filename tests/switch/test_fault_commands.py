"""Faults by command, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import bank, output, state
from runtime.settings import Home
from switch.service import RunningSwitch
from tests.switch.conftest import Zone


@pytest.fixture
def as_program() -> Iterator[None]:
    output.use_json(True)
    yield
    output.use_json(False)


def said(app: Any, home: Home, *arguments: str) -> Any:
    state.select(home.path)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("as_program")
def test_faults_are_set_listed_and_forgotten_by_command(
    zone: Zone, switch: RunningSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWBP_SWITCH__ADMIN_PORT", switch.admin_url.rpartition(":")[2])
    zone.home.config.touch()
    app = bank.app
    more = ("--rc", "61", "--card", "0007", "--probability", "0.5", "--count", "3")
    made = said(app, zone.home, "faults", "set", "refuse", *more)
    assert said(app, zone.home, "faults", "list") == [made]
    assert (made["kind"], made["rc"], made["card"], made["probability"], made["count"]) == (
        "refuse", "61", "0007", 0.5, 3,
    )  # fmt: skip
    altered = said(app, zone.home, "faults", "set", "alter", "--mti", "042x", "--field", "39=05")
    assert altered["fields"] == {"39": "05"}
    assert said(app, zone.home, "faults", "clear") == {"cleared": True}
    assert said(app, zone.home, "faults", "list") == []
    assert said(app, zone.home, "page")["url"].endswith("/page/")
    for wrong in (("drop", "--mti", "02"), ("refuse", "--card", "12"), ("alter", "--field", "39")):
        state.select(zone.home.path)
        assert CliRunner().invoke(app, ["faults", "set", *wrong]).exit_code != 0
