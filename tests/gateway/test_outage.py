"""The key service away at any moment: an order that was not sent can be sent again, one that was is not lost.

The parts are real; a wrapper around the two clients refuses to reach the service when a test says so.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from audit.journal import Journal
from ca.hierarchy import load_hierarchy
from ca.status_client import AsyncStatusCache
from gateway.gateway import Gateway, Resources
from gateway.guarding.watch import Watch
from gateway.key_exchange import KeyExchange
from gateway.links.line import Line
from gateway.links.link import SwitchLink
from gateway.merchants import Merchant
from gateway.operating.watching import OrderWatch
from gateway.order import OrderKey
from gateway.ports import CmsSigner, OpenedOrder, OrderKeys
from gateway.reversal import Reversals
from gateway.service import RepositoryTrust, config_of
from gateway.settling.forwarding import Forwarding
from gateway.settling.reconciliation import Reconciliation
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway_keys.client import GatewayKeysClient
from hsm_service.client import AsyncHsmClient
from kwbp.codes import AuthCode
from runtime.client import async_http_client
from runtime.problems import Problem
from runtime.settings import Settings
from shetab.types import Pan
from tests.gateway.conftest import run, until
from tests.support.payment_parties import Buyer, Purchase, auth_res_of, error_of, now
from tests.support.payment_site import OPENING, Site
from tests.support.uptime import following

AMOUNT = 150_000


class Outage:
    """Which calls do not get through, and how often; the service behind is the real one."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """What the gateway asked, whether it got through or not."""
        self.failing: dict[str, int] = {}
        self.meanwhile: dict[str, Callable[[], Awaitable[None]]] = {}
        """What happens elsewhere while a call is under way; once."""

    def begin(self, call: str, times: int = 10**6) -> None:
        self.failing[call] = times

    def end(self) -> None:
        self.failing.clear()

    async def check(self, call: str) -> None:
        self.calls.append(call)
        left = self.failing.get(call, 0)
        if left:
            self.failing[call] = left - 1
            raise Problem(503, "hsm-unreachable", "the HSM service does not answer")
        if (work := self.meanwhile.pop(call, None)) is not None:
            await work()


class Signer:
    def __init__(self, real: CmsSigner, outage: Outage) -> None:
        self._real, self._outage = real, outage

    async def describe_key(self, name: str) -> Any:
        return await self._real.describe_key(name)

    async def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        await self._outage.check("sign")
        return await self._real.sign_cms(name, content_type, content)


class Keys:
    def __init__(self, real: OrderKeys, outage: Outage) -> None:
        self._real, self._outage = real, outage

    async def open_order(self, pi_envelope: bytes, dual_signature: bytes, hod: bytes) -> OpenedOrder:
        await self._outage.check("open")
        return await self._real.open_order(pi_envelope, dual_signature, hod)

    def of_zone(self, zone: str) -> Keys:
        return self

    async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
        await self._outage.check("unseal")
        return await self._real.unseal_pan(xid, blob)

    async def sign_answer(self, data: bytes, mac: bytes, *, key: str, content: bytes, zone: str) -> bytes | None:
        for call in ("answer", "verify" + data[:4].decode(), "sign"):  # one request, and the others in it
            await self._outage.check(call)
        return await self._real.sign_answer(data, mac, key=key, content=content, zone=zone)

    async def mac(self, data: bytes) -> bytes:
        await self._outage.check("mac" + data[:4].decode())
        return await self._real.mac(data)

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        await self._outage.check("verify" + data[:4].decode())
        return await self._real.verify_mac(data, mac)


Run = Callable[[Gateway, Outage, Purchase], Awaitable[None]]


@asynccontextmanager
async def _gateway(site: Site, folder: Path, outage: Outage) -> AsyncIterator[Gateway]:
    home = site.gateway_home(folder)
    settings = Settings.load(home)
    hierarchy = load_hierarchy(home.pki)
    status = AsyncStatusCache(settings.repository.url, hierarchy.anchors, hierarchy.intermediates)
    async with async_http_client(home.tls_files("gateway"), settings.hsm.url) as transport:
        with (
            OrderStore.open(home.db / "gateway.sqlite") as store,
            Journal.open(home.audit / "gateway.jsonl") as journal,
        ):
            resources = Resources(
                store=store,
                journal=journal,
                signer=Signer(AsyncHsmClient(transport), outage),
                keys=Keys(GatewayKeysClient(transport), outage),
                trust=RepositoryTrust(status),
                clock=now,
                uptime=following(now),
                rng=os.urandom,
            )
            gateway = Gateway(config_of(settings), resources)
            await gateway.start()
            try:
                await until(lambda: gateway.ready)
                yield gateway
            finally:
                outage.end()
                await gateway.stop()
                await status.aclose()


def _play(site: Site, folder: Path, buyer: Buyer, play: Run) -> None:
    """Run one test's play with a gateway in this loop and one order."""
    shop = site.new_shop()
    purchase = site.purchase(shop, buyer, AMOUNT)
    outage = Outage()

    async def scenario() -> None:
        async with _gateway(site, folder, outage) as gateway:
            merchant = Merchant(shop.merchant_id, shop.terminal_id, "Bookshop", "5942")
            await gateway.merchants.register(merchant, now())
            await play(gateway, outage, purchase)

    run(scenario())


def _state(gateway: Gateway, purchase: Purchase) -> OrderState | None:
    order = gateway.store.find(OrderKey(purchase.shop.merchant_id, purchase.xid))
    return None if order is None else order.state


async def _collect(gateway: Gateway, purchase: Purchase) -> bytes:
    return await gateway.authorize(purchase.shop.merchant_id, purchase.message)


@pytest.mark.parametrize(
    ("call", "state"), [("open", OrderState.RECEIVED), ("mac0200", OrderState.VERIFIED)], ids=["open", "mac"]
)
def test_away_before_anything_was_sent_the_same_bytes_are_collected_later(
    site: Site, tmp_path: Path, buyer: Buyer, call: str, state: OrderState
) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        outage.begin(call)
        for _ in range(2):
            with pytest.raises(Problem) as problem:
                await _collect(gateway, purchase)
            assert problem.value.status == 503
            assert _state(gateway, purchase) is state
        outage.end()
        assert purchase.checked_answer(await _collect(gateway, purchase)).approved

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING - AMOUNT


def test_a_sale_asks_the_key_service_three_times(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        before = len(outage.calls)
        assert purchase.checked_answer(await _collect(gateway, purchase)).approved
        assert outage.calls[before:] == ["open", "mac0200", "answer", "verify0210", "sign"]

    _play(site, tmp_path / "home", buyer, play)


def test_what_cannot_be_asked_in_one_is_asked_one_after_the_other(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        before = len(outage.calls)
        outage.begin("answer")
        assert purchase.checked_answer(await _collect(gateway, purchase)).approved
        assert outage.calls[before:] == ["open", "mac0200", "answer", "verify0210", "sign"]

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING - AMOUNT


@pytest.mark.parametrize(
    ("balance", "rc", "code", "state"),
    [(OPENING, "00", AuthCode.APPROVED, OrderState.APPROVED), (100, "51", AuthCode.DECLINED, OrderState.DECLINED)],
    ids=["approved", "declined"],
)
def test_a_signature_that_is_long_in_coming_does_not_cost_the_network_s_answer(
    site: Site, tmp_path: Path, balance: int, rc: str, code: AuthCode, state: OrderState
) -> None:
    hanging = asyncio.Event()

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        before = len(outage.calls)
        outage.meanwhile["sign"] = hang  # the MAC is verified by then, and nobody has been told
        answer = auth_res_of(await _collect(gateway, purchase))
        assert hanging.is_set()
        assert outage.calls[before:] == ["open", "mac0200", "answer", "verify0210", "sign", "verify0210", "sign"]
        assert (answer.auth_code, answer.rc, _state(gateway, purchase)) == (code, rc, state)

    _play(site, tmp_path / "home", site.buyer(balance=balance), play)


def test_an_answer_under_a_wrong_mac_is_drafted_and_never_signed(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    journal = site.home.audit / "hsm.jsonl"

    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        site.switch.admin.add_fault("0200", "corrupt_mac")
        before = len(journal.read_text().splitlines())
        assert auth_res_of(await _collect(gateway, purchase)).auth_code is AuthCode.NO_REPLY
        entries = [json.loads(line)["entry"] for line in journal.read_text().splitlines()[before:]]
        refused = [each for each in entries if each["event"] == "refused" and each["reason"] == "wrong-mac"]
        assert [(each["operation"], each["caller"]) for each in refused] == [("cms", "service:gateway")]
        signed = [each for each in entries if each["event"] == "intent" and each["operation"] == "cms"]
        assert signed
        assert refused[0]["input_sha256"] not in {each["input_sha256"] for each in signed}
        await until(lambda: _state(gateway, purchase) is OrderState.REVERSED)

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


def test_a_short_absence_while_signing_is_waited_out(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        outage.begin("sign", times=2)
        assert purchase.checked_answer(await _collect(gateway, purchase)).approved

    _play(site, tmp_path / "home", buyer, play)


def test_an_approval_that_cannot_be_signed_is_given_back(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        outage.begin("sign")
        with pytest.raises(Problem) as problem:
            await _collect(gateway, purchase)
        assert problem.value.status == 503
        assert _state(gateway, purchase) in (OrderState.UNKNOWN, OrderState.REV_QUEUED, OrderState.REVERSED)
        outage.end()
        answer = await _collect(gateway, purchase)
        assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
        await until(lambda: _state(gateway, purchase) is OrderState.REVERSED)
        assert await _collect(gateway, purchase) == answer

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


def test_a_refusal_of_the_issuer_that_cannot_be_signed_is_told_later(site: Site, tmp_path: Path) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        outage.begin("sign")
        with pytest.raises(Problem):
            await _collect(gateway, purchase)
        assert _state(gateway, purchase) is OrderState.DECLINED
        outage.end()
        body = auth_res_of(await _collect(gateway, purchase))
        assert (body.auth_code, body.rc) == (AuthCode.DECLINED, "51")

    _play(site, tmp_path / "home", site.buyer(balance=100), play)


def test_an_answer_whose_mac_nobody_can_verify_is_no_answer(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        outage.begin("verify0210")
        assert auth_res_of(await _collect(gateway, purchase)).auth_code is AuthCode.NO_REPLY
        await until(lambda: _state(gateway, purchase) is OrderState.REVERSED)

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


def test_reversals_wait_for_the_key_service(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        site.switch.admin.add_fault("0200", "drop")
        outage.begin("unseal")
        await _collect(gateway, purchase)
        await until(lambda: _state(gateway, purchase) is OrderState.REV_QUEUED)
        await asyncio.sleep(1.5)
        assert _state(gateway, purchase) is OrderState.REV_QUEUED
        outage.end()
        await until(lambda: _state(gateway, purchase) is OrderState.REVERSED)

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


def test_an_order_book_that_cannot_be_written_stops_the_order_before_it_is_sent(
    site: Site, tmp_path: Path, buyer: Buyer
) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        before = site.switch.admin.statistics()["received"].get("0200", 0)
        gateway.store.writer.close()
        with pytest.raises(Exception, match="closed"):
            await _collect(gateway, purchase)
        assert site.switch.admin.statistics()["received"].get("0200", 0) == before

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


# --- what may happen between two steps --------------------------------------------------------------------------------


def test_a_line_lost_before_the_first_byte_makes_a_certain_refusal(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        async def lose_the_line() -> None:
            site.switch.admin.add_fault("0800", "ignore", count=1000)
            site.switch.admin.break_connections()
            await until(lambda: not gateway.ready)

        outage.meanwhile["mac0200"] = lose_the_line
        body = auth_res_of(await _collect(gateway, purchase))
        site.switch.admin.clear_faults()
        assert (body.auth_code, body.rc) == (AuthCode.SYSTEM_ERROR, "96")
        assert _state(gateway, purchase) is OrderState.DECLINED

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


def test_an_order_given_up_while_its_answer_is_being_signed_stays_given_up(
    site: Site, tmp_path: Path, buyer: Buyer
) -> None:
    """The clock of lost runs and the run itself: whoever stores first decides, and the merchant is told that."""

    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        async def give_up() -> None:
            await gateway.store.recover(now(), sent_before=now())

        outage.meanwhile["sign"] = give_up
        answer = await _collect(gateway, purchase)
        assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
        await until(lambda: _state(gateway, purchase) is OrderState.REVERSED)
        assert await _collect(gateway, purchase) == answer

    _play(site, tmp_path / "home", buyer, play)
    assert buyer.balance == OPENING


def test_an_acknowledgement_that_meets_the_reversal_is_told_that_it_is_late(
    site: Site, tmp_path: Path, buyer: Buyer
) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        answer = await _collect(gateway, purchase)
        key = OrderKey(purchase.shop.merchant_id, purchase.xid)
        await gateway.store.queue_reversal(key, OrderState.APPROVED, "no acknowledgement", now())
        ack = purchase.ack(answer)
        error = await gateway.acknowledge(purchase.shop.merchant_id, ack)
        assert error is not None
        told = error_of(error, ack, site)
        assert (told.error_code.protocol_name, told.clause) == ("ackTimeout", "B3")

    _play(site, tmp_path / "home", buyer, play)


def test_an_approval_that_was_kept_cannot_be_given_back(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        answer = await _collect(gateway, purchase)
        assert await gateway.acknowledge(purchase.shop.merchant_id, purchase.ack(answer)) is None
        back = purchase.ack(answer, accepted=False)
        error = await gateway.acknowledge(purchase.shop.merchant_id, back)
        assert error is not None
        assert error_of(error, back, site).error_code.protocol_name == "xidAlreadyUsed"
        assert _state(gateway, purchase) is OrderState.ACKED

    _play(site, tmp_path / "home", buyer, play)


def test_a_refusal_by_the_key_service_alone_tells_no_more_than_any_other(
    site: Site, tmp_path: Path, buyer: Buyer
) -> None:
    """It judges the sealed order for itself; if it disagrees with us, the merchant sees what it always sees."""

    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        async def disagree() -> None:
            raise Problem(422, "order-refused", "order must be in force", clause="KWBP G7")

        outage.meanwhile["open"] = disagree
        told = error_of(await _collect(gateway, purchase), purchase.message, site)
        assert (told.error_code.protocol_name, told.clause) == ("decodingFailure", "G8")

    _play(site, tmp_path / "home", buyer, play)


def test_work_that_fails_at_its_first_try_is_begun_again(
    site: Site, tmp_path: Path, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a gateway does by itself: nothing of it ends without a word."""
    works = {
        (Watch, "run"): "watch over what is needed",
        (OrderWatch, "run"): "watch over orders",
        (Gateway, "_begin"): "beginning",
        (SwitchLink, "run"): "connector switch",
        (Line, "run"): "line 1 of switch",
        (KeyExchange, "run"): "keys of zone switch",
        (Reversals, "run"): "reversals",
        (Forwarding, "run"): "requests of merchants",
        (Reconciliation, "run"): "reconciliation",
    }
    for owner, name in works:
        monkeypatch.setattr(owner, name, _failing_first(getattr(owner, name)))

    async def play(gateway: Gateway, outage: Outage, purchase: Purchase) -> None:
        assert purchase.checked_answer(await _collect(gateway, purchase)).approved

    with capture_logs() as logs:
        _play(site, tmp_path / "home", buyer, play)
    ended = [log for log in logs if log["event"].endswith("begun again")]
    assert sorted(log["work"] for log in ended) == sorted(works.values())
    assert {log["error"] for log in ended} == {"_FirstTry"}
    assert buyer.balance == OPENING - AMOUNT


class _FirstTry(Exception):
    pass


def _failing_first(work: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    tried = False

    async def failing(*arguments: Any) -> None:
        nonlocal tried
        if not tried:
            tried = True
            raise _FirstTry
        await work(*arguments)

    return failing
