"""Releases over a real gateway and switch: what was held beyond the capture is back on the card, booked once."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, update
from typer.testing import CliRunner

from cli import gateway as gateway_commands
from cli import output, state
from gateway.schema import orders
from kwbp.common import Draft
from kwbp.settling import ANSWERS, Followed
from kwbp.wrapper import unwrap
from pki.oids import CT_CAP_RES, CT_ERROR
from runtime.client import http_client, raise_problem
from runtime.settings import Home, Settings
from switch.faults import Fault, Kind
from tests.gateway.settling_shop import Collected, changed, collected, request_message
from tests.gateway.test_replicas import Shared, running
from tests.gateway.test_settling_requests import AMOUNT, gets
from tests.support.payment_parties import Buyer, Shop, error_of
from tests.support.payment_site import OPENING, Site, wait_for

CAPTURED = 100_000
BROKEN: Final[tuple[Kind, ...]] = (
    "ignore",
    "drop",
    "delay",
    "repeat",
    "disconnect",
    "corrupt_mac",
    "garble",
    "wrong_stan",
    "wrong_amount",
)
pytestmark = pytest.mark.slow


def lapse(target: str, *held: Collected) -> None:
    """What the passing of time does to these holds."""
    engine = create_engine(target.replace("postgresql:", "postgresql+psycopg:", 1))
    with engine.begin() as connection:
        for each in held:
            its = orders.c.xid == each.purchase.xid
            assert connection.execute(update(orders).where(its).values(lapses_at=orders.c.received_at)).rowcount == 1
    engine.dispose()


def database(home: Home) -> str:
    return f"sqlite:///{home.db / 'gateway.sqlite'}"


def captured_in_part(site: Site, url: str, shop: Shop, buyer: Buyer) -> Collected:
    held = collected(site, url, shop, buyer, AMOUNT, hold=True)
    held.done(held.capture(CAPTURED))
    return held


def recorded(site: Site, held: Collected) -> list[str]:
    """What the switch recorded of reversals of the order's authorisation."""
    reference = f"KWBP2 {held.purchase.xid.hex()} AUTHREV"
    return [each.state for each in site.switch.admin.transactions(reference=reference)]


def settled(site: Site, held: Collected, buyer: Buyer, *, shops: int = CAPTURED) -> None:
    """The release is booked once, and everybody knows of the same money."""
    wait_for(lambda: buyer.balance == OPENING - CAPTURED)
    wait_for(lambda: held.shop.settlings(held.url, held.purchase.xid)[-1]["state"] == "ANSWERED")
    (_, release) = held.shop.settlings(held.url, held.purchase.xid)
    told = {name: release[name] for name in ("request", "amount", "auth_code", "answer", "rrpid")}
    assert told == {"request": "Release", "amount": CAPTURED, "auth_code": "approved", "answer": None, "rrpid": None}
    assert recorded(site, held) == ["approved"]
    assert gets(site, held.shop) == shops
    assert site.switch.admin.is_balanced()
    assert held.refused(held.capture(1)).clause == "H9"


def test_the_rest_of_each_hold_is_given_back_once_whatever_the_line_does(site: Site, tmp_path: Path) -> None:
    """The first message or its answer is lost, late, twice, another's or broken, and the first repeat is lost too."""
    home, shop, buyers = site.gateway_home(tmp_path / "home"), site.new_shop(), [site.buyer() for _ in (None, *BROKEN)]
    with site.gateway(home) as url:
        site.register(url, shop)
        held = [captured_in_part(site, url, shop, buyer) for buyer in buyers]
        assert {buyer.balance for buyer in buyers} == {OPENING - AMOUNT}
    for kind, buyer in zip(BROKEN, buyers, strict=False):  # of the last one nothing is broken
        card = buyer.issued.pan.reveal()[-4:]
        site.switch.admin.add(Fault(mti="0420", kind=kind, card=card, seconds=2.0 if kind == "delay" else 0.0))
        site.switch.admin.add(Fault(mti="0421", kind="ignore", card=card))
    lapse(database(home), *held)
    home = site.gateway_home(home.path, answer_timeout=1.0)  # that nothing came is known soon
    try:
        with site.gateway(home) as url:
            for each, buyer in zip(held, buyers, strict=True):
                each.url = url
                settled(site, each, buyer, shops=len(held) * CAPTURED)
    finally:
        site.switch.admin.clear_faults()


def test_the_operator_sees_a_release_and_who_made_it(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway_process(home) as gateway:
        site.register(gateway.url, shop)
        held = captured_in_part(site, gateway.url, shop, buyer)
        lapse(database(home), held)
        settled(site, held, buyer)
        state.select(home.path)
        output.use_json(True)
        try:
            asked = ["order", held.purchase.xid.hex(), "--merchant", shop.merchant_id]
            told = CliRunner().invoke(gateway_commands.app, asked)
        finally:
            output.use_json(False)
        shown: dict[str, Any] = json.loads(told.stdout)
    found = [(each["request"], each["amount"]) for each in shown["settlings"]]
    assert found == [("CapReq", CAPTURED), ("Release", CAPTURED)]
    steps = [step["what"] for step in shown["life"]]
    assert {"reason": "hold lapsed", "left": CAPTURED} in steps
    assert {"released": True, "rc": "00"} in steps


@pytest.mark.parametrize("step", ["release-taken", "settling-sent", "settling-answered", "release-ended"])
def test_killed_at_a_step_it_is_released_once(site: Site, tmp_path: Path, buyer: Buyer, step: str) -> None:
    home, shop = site.gateway_home(tmp_path / "home", answer_timeout=1.0), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        held = captured_in_part(site, url, shop, buyer)
    lapse(database(home), held)
    with site.gateway_process(home, fatal=step, ready=False) as dying:
        dying.wait_killed()
    with site.gateway(home) as held.url:
        settled(site, held, buyer)


def test_before_its_card_is_forgotten_the_rest_of_a_hold_is_given_back(
    site: Site, tmp_path: Path, buyer: Buyer
) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        held = captured_in_part(site, url, shop, buyer)
    home = site.gateway_home(tmp_path / "home", card_kept=0.000001)
    with site.gateway(home) as held.url:
        settled(site, held, buyer)


def test_two_gateways_release_it_once_also_if_one_is_killed_at_it(site: Site, tmp_path: Path) -> None:
    shared, shop, buyers = Shared(site, tmp_path), site.new_shop(), [site.buyer() for _ in range(4)]
    with shared.gateways("") as (staying,):
        site.register(staying.url, shop)
        held = [captured_in_part(site, staying.url, shop, buyer) for buyer in buyers]
        steps = ("", "release-taken", "settling-sent", "settling-answered")
        with running(site, [(shared, step) for step in steps]):
            lapse(Settings.load(staying.home).gateway.database or "", *held)
            for each, buyer in zip(held, buyers, strict=True):
                settled(site, each, buyer, shops=4 * CAPTURED)


def test_captures_that_come_as_holds_lapse_leave_everybody_the_same_money(site: Site, tmp_path: Path) -> None:
    """The shop goes by what it is told; each order's steps are chance, and all orders' come at once."""
    home, shop, buyers = site.gateway_home(tmp_path / "home"), site.new_shop(), [site.buyer() for _ in range(6)]
    with site.gateway(home) as url, ThreadPoolExecutor(len(buyers)) as pool:
        site.register(url, shop)
        held = [captured_in_part(site, url, shop, buyer) for buyer in buyers]
        taken = list(pool.map(lambda each: sells(database(home), each[1], Random(each[0])), enumerate(held)))
        for each, buyer, captured in zip(held, buyers, taken, strict=True):
            wait_for(
                lambda each=each: all(row["state"] == "ANSWERED" for row in shop.settlings(url, each.purchase.xid))
            )
            lapse(database(home), each)
            wait_for(lambda buyer=buyer, captured=captured: buyer.balance == OPENING - captured, every=0.1)
        assert gets(site, shop) == sum(taken)
        assert site.switch.admin.is_balanced()
        with http_client(site.tls("operator"), url) as client:
            accounts = {row["account"]: row["balance"] for row in raise_problem(client.get("/v1/ledger")).json()}
            assert raise_problem(client.get("/v1/ledger-verification")).json() == []
        assert accounts.get(f"payable:{shop.merchant_id}", 0) == -sum(taken)
        assert sum(accounts.values()) == 0


def sells(target: str, held: Collected, rng: Random) -> int:
    """Captures and takes captures back while the hold lapses again and again; what is captured, as the shop knows."""
    captures: list[tuple[int, Followed]] = []
    for _ in range(4):
        lapse(target, held)
        if captures and rng.random() < 0.4:
            _, capture = captures.pop(rng.randrange(len(captures)))
            draft, amount = held.capture_reversal(capture), 0
        else:
            amount = rng.randrange(1, 20_000)
            draft = held.capture(amount)
        while (followed := told(held, draft)) is None and not amount:
            pass  # the release is under way: what must be taken back is asked for until it is
        if followed is not None and amount:
            captures.append((amount, followed))
    return CAPTURED + sum(amount for amount, _ in captures)


def told(held: Collected, draft: Draft[Any]) -> Followed | None:
    """What may be followed of it; None if it was refused: a release is under way, or nothing is held any more."""
    draft = changed(draft, rrpid=os.urandom(20))
    message = request_message(held.shop, draft)
    answer = held.sent(message)
    if unwrap(answer, expected=(CT_ERROR, ANSWERS[draft.content_type])).msg_type == CT_ERROR:
        assert error_of(answer, message, held.shop.site).clause in ("H5", "H9")
        return None
    judged = held.judged(draft, message, answer)
    assert judged.approved, judged.body
    return Followed.capture(judged.signed) if ANSWERS[draft.content_type] == CT_CAP_RES else held.authorisation
