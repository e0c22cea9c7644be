"""The acquirer with everything real: token, gateway, switch; from sales to the bank's answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from cli import gateway_money, output
from cli.state import Installation
from pki.names import identity_uri
from runtime.client import TlsFiles, http_client, raise_problem
from runtime.problems import Problem
from runtime.settings import Home, Settings
from tests.gateway.settling_shop import collected
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import ACQUIRER, Site
from tests.support.pki_factory import IBAN

FEES = """
rules:
  - {name: standard, valid_from: 2020-01-01, fixed: 500, per_mille: "10"}
"""


@pytest.fixture(scope="module")
def gateway(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("acquirer")
    (folder / "fees.yaml").write_text(FEES, "utf-8")
    home = site.gateway_home(folder / "home", fees=str(folder / "fees.yaml"), payer_iban=IBAN)
    with site.gateway(home) as url:
        yield url


@pytest.fixture
def cut_over(site: Site) -> Iterator[date]:
    """The business day that sales are counted in; afterwards the calendar's again."""
    yield site.switch.admin.business_day()
    site.switch.admin.cut_over(None)


def asked(site: Site, url: str, method: str, path: str, *, tls: TlsFiles | None = None, **more: Any) -> httpx.Response:
    with http_client(tls or site.tls("operator"), url) as client:
        return client.request(method, path, **more)


def said(site: Site, url: str, method: str, path: str, **more: Any) -> Any:
    return raise_problem(asked(site, url, method, path, **more)).json()


def test_a_day_from_its_sales_to_the_banks_answer(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, cut_over: date
) -> None:
    day = cut_over
    site.register(gateway, shop, iban=IBAN)
    sale = collected(site, gateway, shop, buyer, 150_000)
    sale.done(sale.credit(30_000))
    # The network goes on to the next day, and both count the same: 0500 closes the day.
    site.switch.admin.cut_over(day + timedelta(days=1))

    compared = said(site, gateway, "POST", "/v1/reconciliations:compare", params={"wait": 20}, json={})
    assert compared["days"] >= 1
    assert compared["unanswered"] == 0
    rows = said(site, gateway, "GET", "/v1/reconciliations", params={"merchant_id": shop.merchant_id})
    assert {row["state"] for row in rows} == {"CLOSED"}
    # Movement by movement too, by the list that the switch signed.
    listed = site.switch.admin.settlement_list(ACQUIRER, day)
    taken = said(site, gateway, "POST", "/v1/settlement-lists", content=listed)
    assert taken["movements"] >= 2
    assert said(site, gateway, "GET", "/v1/differences", params={"merchant_id": shop.merchant_id}) == []
    damaged = asked(site, gateway, "POST", "/v1/settlement-lists", content=listed.replace(b"150000", b"150001"))
    assert (damaged.status_code, damaged.json()["status"]) == (422, 422)
    # Paid out, in a file that another person sends.
    done = said(site, gateway, "POST", "/v1/payouts", json={"merchant_id": shop.merchant_id})
    (payout,) = done["made"]
    assert (payout["gross"], payout["fees"], payout["amount"]) == (120_000, 2_000, 118_000)
    console = asked(site, gateway, "POST", "/v1/payment-files")
    assert (console.status_code, console.json()["clause"]) == (409, "CPS 5.2.2")
    maker = site.tls("officer-2", identity_uri("officer", "officer-2"))
    made = said(site, gateway, "POST", "/v1/payment-files", tls=maker)
    send = f"/v1/payment-files/{made['number']}:send"
    assert asked(site, gateway, "POST", send, json={"digest": made["digest"]}).status_code == 409
    officer = site.tls("officer-1", identity_uri("officer", "officer-1"))
    (sent,) = said(site, gateway, "POST", send, tls=officer, json={"digest": made["digest"]})
    assert (sent["state"], sent["sent_by"]) == ("SENT", "officer:officer-1")
    answer = f"reference,status,reason\n{payout['reference']},PAID,\n".encode()
    (paid,) = said(site, gateway, "POST", "/v1/bank-answers", content=answer)
    assert paid["state"] == "PAID"
    assert said(site, gateway, "GET", "/v1/ledger-verification") == []
    accounts = {row["account"]: row["balance"] for row in said(site, gateway, "GET", "/v1/ledger")}
    assert accounts[f"payable:{shop.merchant_id}"] == accounts["receivable:switch"] == 0
    # What the merchant is told: its signed advice carries the same fee, its own report the same payment.
    advice = asked(site, gateway, "GET", f"/v1/settlement-advices/{day}", tls=shop.tls)
    assert advice.status_code == 200
    report = asked(site, gateway, "GET", f"/v1/reports/{day}", tls=shop.tls)
    assert report.headers["content-type"] == "text/csv; charset=utf-8"
    assert "118000" in report.text
    pdf = asked(site, gateway, "GET", f"/v1/reports/{day}", tls=shop.tls, params={"format": "pdf", "lang": "fa"})
    assert pdf.content.startswith(b"%PDF-")
    foreign = asked(site, gateway, "GET", f"/v1/reports/{day}", tls=shop.tls, params={"merchant_id": "SHOP-X"})
    assert foreign.status_code == 403


def test_a_network_that_is_cut_back_to_a_paid_day_settles_what_it_counts_then(
    site: Site, gateway: str, buyer: Buyer, cut_over: date
) -> None:
    """The real switch is asked again for the finished day (0500), and what it says is booked by the change."""
    day, shop = cut_over, site.new_shop()
    site.register(gateway, shop, iban=IBAN)
    mine = {"merchant_id": shop.merchant_id}

    def rows() -> list[tuple[str, str, int | None]]:
        found = said(site, gateway, "GET", "/v1/reconciliations", params=mine)
        return [(row["business_day"], row["state"], row["booked"]) for row in found]

    def compared() -> None:
        said(site, gateway, "POST", "/v1/reconciliations:compare", params={"wait": 20}, json=mine)

    collected(site, gateway, shop, buyer, 150_000)
    site.switch.admin.cut_over(day + timedelta(days=1))
    compared()
    said(site, gateway, "POST", "/v1/payouts", json=mine)
    assert rows() == [(day.isoformat(), "CLOSED", 150_000)]
    before = {row["account"]: row["balance"] for row in said(site, gateway, "GET", "/v1/ledger")}

    site.switch.admin.cut_over(day)
    collected(site, gateway, shop, buyer, 70_000)
    assert rows() == [(day.isoformat(), "OPEN", 150_000)]
    site.switch.admin.cut_over(day + timedelta(days=1))
    compared()
    assert rows() == [(day.isoformat(), "CLOSED", 220_000)]
    after = {row["account"]: row["balance"] for row in said(site, gateway, "GET", "/v1/ledger")}
    assert after["receivable:switch"] == before["receivable:switch"]
    assert after["intermediary"] == before["intermediary"] + 70_000
    assert said(site, gateway, "GET", "/v1/ledger-verification") == []


@pytest.fixture
def command(site: Site, gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command of people who see to money, asked for JSON."""
    app, found = typer.Typer(), Installation(Home(tmp_path))
    gateway_money.install(app)

    def run(*arguments: object) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr(gateway_money, "existing", lambda: found)
            patch.setattr(Settings, "load", lambda home: Settings())
            patch.setattr(
                Installation, "client", lambda self, url, identity="operator": http_client(site.tls(identity), gateway)
            )
            output.use_json(True)
            try:
                return CliRunner().invoke(app, [str(each) for each in arguments])
            finally:
                output.use_json(False)

    return run


def shown(ended: Result) -> Any:
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_a_command_decides_only_the_excess_that_was_looked_at(
    site: Site,
    gateway: str,
    shop: Shop,
    buyer: Buyer,
    cut_over: date,
    tmp_path: Path,
    command: Callable[..., Result],
) -> None:
    """The network lists a sale that another gateway of the acquirer has in its books."""
    site.register(gateway, shop, iban=IBAN)
    day = site.switch.admin.business_day()
    with site.gateway(site.gateway_home(tmp_path / "other")) as other:
        site.register(other, shop, iban=IBAN)
        collected(site, other, shop, buyer, 60_000)
    site.switch.admin.cut_over(day + timedelta(days=1))
    said(site, gateway, "POST", "/v1/settlement-lists", content=site.switch.admin.settlement_list(ACQUIRER, day))

    def found() -> dict[str, Any]:
        (row,) = shown(command("differences", "--merchant", shop.merchant_id, "--all"))
        return dict(row)

    row = found()
    assert (row["excess"], row["state"]) == (60_000, "OPEN")
    decide = ("decide", row["number"], "correct", "--reason", "void at the bank")
    with pytest.raises(Problem) as refused:
        raise command(*decide, "--excess", -60_000).exception or AssertionError
    assert refused.value.type.endswith("no-open-difference")
    assert found()["state"] == "OPEN"
    assert shown(command(*decide, "--excess", row["excess"]))["state"] == "CORRECTED"
    assert (found()["state"], shown(command("ledger", "verify"))) == ("CORRECTED", [])


def test_the_commands_say_the_same(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, tmp_path: Path, command: Callable[..., Result]
) -> None:
    def run(*arguments: object) -> Any:
        return shown(command(*arguments))

    site.register(gateway, shop, iban=IBAN)
    collected(site, gateway, shop, buyer, 70_000)
    today = site.switch.admin.business_day()
    (row,) = run("reconcile", "--merchant", shop.merchant_id)
    assert (row["business_day"], row["route"], row["state"]) == (today.isoformat(), "switch", "OPEN")
    assert shop.merchant_id not in {each["merchant_id"] for each in run("differences")}
    assert [each["reason"] for each in run("settle", "--merchant", shop.merchant_id)["left"]] == ["not-ended"]
    assert run("settlements", "--merchant", shop.merchant_id) == []
    assert run("ledger", "verify") == []
    (line,) = run("ledger", f"payable:{shop.merchant_id}")
    assert line["amount"] == -70_000
    assert {each["account"] for each in run("ledger")} >= {"receivable:switch", f"payable:{shop.merchant_id}"}
    written = tmp_path / "day.pdf"
    told = run(
        "report", "--day", today, "--merchant", shop.merchant_id, "--format", "pdf", "--lang", "fa", "--out", written
    )
    assert told["bytes"] == len(written.read_bytes())
    assert isinstance(run("payment", "list"), list)
