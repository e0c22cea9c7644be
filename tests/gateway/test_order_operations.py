"""Orders from a gateway as a process: reversals as workflows, a person's word, limits on the way of a payment."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from cli import gateway as gateway_commands
from cli import output, state
from cli.gateway_officer import StatementSigner
from gateway.order import OrderKey
from gateway.reversal_workflows import workflow_id
from kwbp.codes import AuthCode
from ra.officer import officer_of
from runtime.client import TlsFiles, http_client, raise_problem
from runtime.language import Language
from runtime.language_catalogue import of_package
from tests.gateway.test_secrecy import leaks, telling_buyer
from tests.support.payment_parties import auth_res_of
from tests.support.payment_site import OPENING, GatewayProcess, Site, wait_for

LIMITS = """
rules:
  - {name: three-a-day, for: card, window: day, orders: 3, because: {en: agreed, fa: توافق}}
  - {name: shop-by-hour, for: merchant, window: hour, amount: 1000000, because: {en: agreed, fa: توافق}}
"""


def operator(site: Site) -> TlsFiles:
    return site.tls("operator")


def officer(site: Site, name: str = "desk-officer-1") -> TlsFiles:
    files = site.home.tls_files(name)
    if not files.certificate.exists():
        login = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        made = site.pki.officer(name, roles=("security_officer",), replace={"extended_key_usage": (login, False)})
        made.write(site.home.tls, name)
    return files


def ask(tls: TlsFiles, url: str, method: str, path: str, **how: Any) -> Any:
    with http_client(tls, url) as client:
        return raise_problem(client.request(method, path, **how)).json()


@pytest.fixture(scope="module")
def process(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("operations")
    rules = folder / "limits.yaml"
    rules.write_text(LIMITS, "utf-8")
    with site.gateway_process(site.gateway_home(folder / "home", limits=str(rules))) as gateway:
        yield gateway


def test_a_reversal_is_one_workflow_and_its_rows_hold_no_card(site: Site, process: GatewayProcess) -> None:
    shop, buyer = site.new_shop(), telling_buyer(site)
    site.register(process.url, shop)
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("042x", "ignore")
    lost = site.purchase(shop, buyer)
    shop.collect(process.url, lost)
    wait_for(lambda: shop.order(process.url, lost.xid)["state"] == "REVERSED")
    assert buyer.balance == OPENING
    life = ask(operator(site), process.url, "GET", f"/v1/orders/{lost.xid.hex()}/life")
    states = [step["state"] for step in life["steps"]]
    assert states == ["RECEIVED", "VERIFIED", "SENT", "UNKNOWN", *["REV_QUEUED"] * 3, "REVERSED"]
    assert [step["what"].get("attempt") for step in life["steps"][5:7]] == [1, 2]
    with sqlite3.connect(process.home.db / "gateway-schedules.sqlite") as rows:
        ids = [
            name for (name,) in rows.execute("SELECT workflow_uuid FROM workflow_status WHERE name LIKE '%reversal'")
        ]
        assert ids == [f"gateway.reversal/{workflow_id(OrderKey(shop.merchant_id, lost.xid), 1)}"]
    rows.close()
    assert leaks(process.home.path, buyer) == []


def test_a_person_queues_a_failed_reversal_again_or_states_its_outcome(site: Site, process: GatewayProcess) -> None:
    shop, buyer, url = site.new_shop(), site.buyer(), process.url
    site.register(url, shop)

    def failed() -> str:
        site.switch.admin.add_fault("0200", "drop")
        site.switch.admin.add_fault("0420", "alter", changed={39: "13"})
        lost = site.purchase(shop, buyer, 10_000)
        shop.collect(url, lost)
        wait_for(lambda: shop.order(url, lost.xid)["state"] == "REV_FAILED")
        return lost.xid.hex()

    again = failed()
    (listed,) = ask(operator(site), url, "GET", "/v1/orders", params={"state": "REV_FAILED"})["orders"]
    assert (listed["xid"], listed["merchant_id"], listed["reversal_rc"]) == (again, shop.merchant_id, "13")
    ask(operator(site), url, "POST", f"/v1/orders/{again}/reversal", json={"reason": "the bank is back"})
    wait_for(lambda: shop.order(url, bytes.fromhex(again))["state"] == "REVERSED")
    assert buyer.balance == OPENING

    stated = failed()
    path, told = f"/v1/orders/{stated}", {"outcome": "reversed", "reason": "call 31"}
    with http_client(operator(site), url) as client:
        refused = client.post(f"{path}/resolution", json=told)
        assert (refused.status_code, refused.json()["clause"]) == (409, "CPS 5.2.2"), "the console is no person by name"
        ask(officer(site, "desk-officer-2"), url, "POST", f"{path}/resolution", json=told)
        assert client.post(f"{path}/confirmation", json={"outcome": "reversed"}).status_code == 403
    life = ask(officer(site), url, "POST", f"{path}/confirmation", json={"outcome": "reversed"})
    assert (life["order"]["state"], life["stated"]["confirmed_by"]) == ("REVERSED", "officer:desk-officer-1")
    with http_client(operator(site), url) as client:
        refused = client.post(f"{path}/reversal", json={"reason": "once more"})
    assert (refused.status_code, refused.json()["clause"]) == (409, "KWBP B3")


def test_a_limit_refuses_with_a_signed_answer_and_its_code(site: Site, process: GatewayProcess) -> None:
    shop, buyer, url = site.new_shop(), site.buyer(), process.url
    site.register(url, shop)
    rules = ask(officer(site), url, "GET", "/v1/limits")
    assert [rule["name"] for rule in rules] == ["three-a-day", "shop-by-hour"]

    def collected(amount: int) -> tuple[AuthCode, str | None, bytes]:
        purchase = site.purchase(shop, buyer, amount)
        answer = auth_res_of(shop.collect(url, purchase))
        return answer.auth_code, answer.rc, purchase.xid

    assert collected(600_000)[0] is AuthCode.APPROVED
    code, rc, xid = collected(400_001)
    assert (code, rc) == (AuthCode.DECLINED, "61")
    steps = ask(operator(site), url, "GET", f"/v1/orders/{xid.hex()}/life")["steps"]
    assert (steps[-1]["state"], steps[-1]["what"]) == ("DECLINED", {"rc": "61", "rule": "shop-by-hour"})
    assert [collected(1_000)[0] for _ in range(2)] == [AuthCode.APPROVED] * 2
    assert collected(1_000)[:2] == (AuthCode.DECLINED, "65")
    assert buyer.balance == OPENING - 602_000


def test_killed_between_two_attempts_the_workflow_goes_on(site: Site, tmp_path: Path) -> None:
    home, shop, buyer = site.gateway_home(tmp_path / "home"), site.new_shop(), site.buyer()
    with site.gateway_process(home) as gateway:
        site.register(gateway.url, shop)
        site.switch.admin.add_fault("0200", "drop")
        site.switch.admin.add_fault("042x", "ignore", count=2)
        lost = site.purchase(shop, buyer)
        shop.collect(gateway.url, lost)
        wait_for(lambda: shop.order(gateway.url, lost.xid)["reversal_attempts"] == 1)
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.wait_killed()
    with site.gateway_process(home) as gateway:
        wait_for(lambda: shop.order(gateway.url, lost.xid)["state"] == "REVERSED")
        assert shop.order(gateway.url, lost.xid)["reversal_attempts"] == 3
    assert buyer.balance == OPENING
    assert site.switch.admin.is_balanced()


def test_the_commands_tell_people_and_programs(site: Site, process: GatewayProcess) -> None:
    shop, buyer, home = site.new_shop(), site.buyer(), process.home
    site.register(process.url, shop)
    purchase = site.purchase(shop, buyer, 5_000)
    shop.collect(process.url, purchase)
    xid = purchase.xid.hex()
    state.select(home.path)

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(gateway_commands.app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert xid in said("orders", "--merchant", shop.merchant_id, "--state", "approved")
    told = said("order", xid)
    assert [word for word in ("RECEIVED", "VERIFIED", "SENT", "APPROVED") if word in told] == [
        *("RECEIVED", "VERIFIED", "SENT", "APPROVED")
    ]
    assert buyer.card.pan.reveal() not in told
    assert "three-a-day" in said("limits")
    assert CliRunner().invoke(gateway_commands.app, ["resolve", xid, "--outcome", "debited"]).exit_code != 0
    assert "REV_QUEUED" in said("reverse", xid, "--reason", "the buyer was charged twice")
    output.use_json(True)
    try:
        wait_for(lambda: json.loads(said("order", xid))["state"] == "REVERSED")
        assert json.loads(said("order", xid))["life"][-1]["state"] == "REVERSED"
        assert json.loads(said("orders", "--limit", "1"))["next"] is not None
    finally:
        output.use_json(False)


def kwbp(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_refusals_of_the_gateway_are_told_in_persian_to_who_reads_it(site: Site, process: GatewayProcess) -> None:
    sentence = of_package("gateway").messages["there is no order of this XID"]
    refused = kwbp(process.home.path, "--lang", "fa", "gateway", "order", "00" * 20)
    assert (refused.returncode, sentence in refused.stderr) == (1, True), refused.stderr
    told = kwbp(process.home.path, "--lang", "fa", "--json", "gateway", "order", "00" * 20)
    assert json.loads(told.stdout)["detail"] == "there is no order of this XID"
    assert "there is no order" in kwbp(process.home.path, "--lang", "en", "gateway", "order", "00" * 20).stderr
    with http_client(operator(site), process.url, language=Language.FA) as client:
        answer = client.get(f"/v1/orders/{'00' * 20}/life")
    assert (answer.headers["content-language"], answer.json()["detail"]) == ("fa", sentence)
    assert answer.json()["title"] == "یافت نشد"


def test_a_gateway_that_is_away_is_told_with_what_to_do(site: Site, tmp_path: Path) -> None:
    home = site.gateway_home(tmp_path / "home")
    away = kwbp(home.path, "gateway", "status")
    assert away.returncode == 1
    assert "does not answer" in away.stderr
    assert "kwbp serve" in away.stderr
    assert "Traceback" not in away.stderr


def test_an_officer_whose_key_is_elsewhere_confirms_by_a_signed_statement(site: Site, process: GatewayProcess) -> None:
    shop, buyer, url = site.new_shop(), site.buyer(), process.url
    site.register(url, shop)
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("0420", "alter", changed={39: "13"})
    lost = site.purchase(shop, buyer, 10_000)
    shop.collect(url, lost)
    wait_for(lambda: shop.order(url, lost.xid)["state"] == "REV_FAILED")
    path, told = f"/v1/orders/{lost.xid.hex()}", {"outcome": "reversed", "reason": "call 32"}

    def by(person: str, role: str = "security_officer") -> StatementSigner:
        made = site.pki.officer(person, roles=(role,))
        return StatementSigner(officer_of(made.certificate, made.chain, made.key), "GW-1")

    first, confirmation = by("security-officer-1"), {"outcome": "reversed"}
    with http_client(operator(site), url) as console:
        raise_problem(console.post(f"{path}/resolution", json=told, auth=first))
        by_tls = by("security-officer-1")  # another credential of the same person
        assert console.post(f"{path}/confirmation", json=confirmation, auth=by_tls).status_code == 409
        refused = console.post(f"{path}/confirmation", json=confirmation, auth=by("auditor-1", "auditor"))
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:kwbp:problem:officer-statement-refused")
        assert console.post(f"{path}/confirmation", json=confirmation).status_code == 403
        sent = console.build_request("POST", f"{path}/confirmation", json=confirmation)
        life = raise_problem(console.send(sent, auth=by("security-officer-2"))).json()
        assert (life["stated"]["stated_by"], life["stated"]["confirmed_by"]) == (
            *("officer:security-officer-1", "officer:security-officer-2"),
        )
        again = console.send(sent)  # the statement is in its headers
        assert (again.status_code, "came before" in again.json()["detail"]) == (403, True)
        kept = raise_problem(console.get("/v1/officer-statements")).json()
    assert [each["person"] for each in kept[:3]] == ["security-officer-2", "security-officer-1", "security-officer-1"]


def test_an_auditor_looks_and_does_nothing(site: Site, process: GatewayProcess) -> None:
    login = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    made = site.pki.officer("auditor-7", roles=("auditor",), replace={"extended_key_usage": (login, False)})
    made.write(site.home.tls, "auditor-7")
    with http_client(site.home.tls_files("auditor-7"), process.url) as client:
        assert client.get("/v1/orders").status_code == 200
        refused = client.post("/v1/payouts", json={})
    assert (refused.status_code, refused.json()["clause"]) == (403, "CPS 5.2.1")
