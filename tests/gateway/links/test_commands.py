"""`kwbp gateway links` and `routes`, as a program and as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import gateway as gateway_commands
from cli import output, state
from kwbp.codes import AuthCode
from runtime.settings import Home, Settings
from tests.support.payment_site import Site


@pytest.fixture
def home(site: Site, tmp_path: Path) -> Iterator[Home]:
    routes = {"prefixes": {"6219": "switch"}, "default": "none"}
    home = site.gateway_home(tmp_path / "home", routes=routes)
    with site.gateway_process(home):
        state.select(home.path)
        yield home


def said(*arguments: str) -> str:
    result = CliRunner().invoke(gateway_commands.app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_operator_sees_lines_and_routes(site: Site, home: Home) -> None:
    output.use_json(True)
    try:
        (line,) = json.loads(said("links"))
        routes = json.loads(said("routes"))
    finally:
        output.use_json(False)
    assert (line["connector"], line["line"], line["state"], line["tls"]) == ("switch", 1, "up", False)
    assert line["address"] == f"127.0.0.1:{site.settings['switch']['port']}"
    assert line["sent"] >= 1
    assert routes == [
        {"prefix": "6219", "connector": "switch", "signed_on": True},
        {"prefix": None, "connector": None, "signed_on": False},
    ]
    assert "switch" in said("links")
    shown = said("routes")
    assert "6219" in shown
    assert "switch" in shown


def test_a_card_without_a_route_is_declined_and_nothing_is_sent(site: Site, home: Home) -> None:
    shop, url = site.new_shop(), Settings.load(home).gateway.url
    site.register(url, shop)
    before = site.switch.admin.statistics()["received"].get("0200", 0)
    purchase = site.purchase(shop, site.buyer(), 150_000)
    body = purchase.checked_answer(shop.collect(url, purchase)).body
    assert body.auth_code is not AuthCode.APPROVED
    assert body.rc == "92"
    assert site.switch.admin.statistics()["received"].get("0200", 0) == before
