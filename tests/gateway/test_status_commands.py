"""What the operator sees at one look, by command and by health."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import gateway as gateway_commands
from cli import output, state
from runtime.client import http_client
from runtime.settings import Home
from tests.support.payment_site import Site, wait_for


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


def told(app: Any, home: Home, *arguments: str) -> str:
    state.select(home.path)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("as_program")
def test_the_operator_sees_the_gateway_at_one_look(site: Site, tmp_path: Path) -> None:
    home, shop = site.gateway_home(tmp_path / "home", answer_timeout=1.0), site.new_shop()
    with site.gateway_process(home) as gateway:
        site.register(gateway.url, shop)
        shown = said(gateway_commands.app, home, "status")
        assert shown["ready"]
        assert shown["lines"] == {"switch": True}
        assert (shown["unknown"], shown["reversals_waiting"], shown["oldest_open_since"]) == (0, 0, None)
        assert {each["key"] for each in shown["zone_keys"]} == {"zone-mac", "zone-pin"}
        site.switch.admin.add_fault("0200", "drop")
        site.switch.admin.add_fault("042x", "drop", count=1000)
        shop.collect(gateway.url, site.purchase(shop, site.buyer()))
        wait_for(lambda: said(gateway_commands.app, home, "status")["reversals_waiting"] == 1)
        assert said(gateway_commands.app, home, "status")["oldest_open_since"] is not None
        site.switch.admin.clear_faults()
        wait_for(lambda: said(gateway_commands.app, home, "status")["reversals_waiting"] == 0)
        output.use_json(False)
        text = told(gateway_commands.app, home, "status")
        assert "Ready." in text
        assert "0 unknown" in text


def test_what_is_away_is_named(site: Site, tmp_path: Path) -> None:
    with site.gateway(site.gateway_home(tmp_path / "home")) as url, http_client(site.tls("operator"), url) as client:
        crls = site.home.pki / "crls"
        crls.rename(crls.with_name("crls-away"))
        try:
            wait_for(lambda: client.get("/health/ready").json()["reasons"] == ["repository"])
            assert client.get("/health/ready").status_code == 503
            assert client.get("/v1/status").json()["reasons"] == ["repository"]
        finally:
            crls.with_name("crls-away").rename(crls)
        wait_for(lambda: client.get("/health/ready").status_code == 200)
