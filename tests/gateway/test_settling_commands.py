"""What the operator sees of captures, credits and business days: `kwbp gateway order`, `days`, `kwbp bank cut-over`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import bank as bank_commands
from cli import gateway as gateway_commands
from cli import output, state
from runtime.settings import Home, Settings
from shetab.jalali import IRAN_STANDARD_TIME
from tests.gateway.settling_shop import collected
from tests.support.payment_parties import now
from tests.support.payment_site import Site
from tests.support.pki_factory import IBAN


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
def test_the_operator_sees_what_was_asked_for_and_where_the_days_stand(site: Site, tmp_path: Path) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway_process(home) as gateway:
        assert gateway.url == Settings.load(home).gateway.url
        registration = ("--terminal", shop.terminal_id, "--name", "Bookshop", "--iban", IBAN)
        told = said(gateway_commands.app, home, "add-merchant", shop.merchant_id, *registration)
        assert told["iban"] == IBAN
        today = now().astimezone(IRAN_STANDARD_TIME).date()
        assert _moved(site, today) == today  # midnight there does not end it
        order = collected(site, gateway.url, shop, site.buyer(), 150_000, hold=True)
        order.done(order.capture(100_000))
        xid = order.purchase.xid.hex()
        shown = said(gateway_commands.app, home, "order", xid, "--merchant", shop.merchant_id)
        assert [(each["request"], each["amount"], each["auth_code"]) for each in shown["settlings"]] == [
            ("CapReq", 100_000, "approved")
        ]
        tomorrow = today + timedelta(days=1)
        try:
            assert _moved(site, tomorrow) == tomorrow
            order.done(order.capture(50_000))
        finally:
            assert _moved(site) in (today, tomorrow)  # as the clock says
        days = said(gateway_commands.app, home, "days", shop.merchant_id)
        assert [day["business_day"] for day in days] == [str(today), str(tomorrow)]


def _moved(site: Site, *day: date) -> date:
    told = said(bank_commands.app, site.home, "cut-over", *(each.isoformat() for each in day))
    return date.fromisoformat(told["day"])
