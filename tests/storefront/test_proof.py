"""Proofs are collected behind the purchase: stored together, obtained once, and what is missing after a failure."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca.ocsp_client import OcspAnswer
from pki.errors import OcspError, TimestampError
from pki.ocsp import verify_ocsp
from pki.path import Trust
from pki.timestamp import Timestamp, verify_token
from storefront.merchant import proof
from storefront.merchant.documents import TIMESTAMP, Document
from storefront.merchant.proof import Proofs
from storefront.merchant.states import OrderState
from storefront.merchant.store import OrderStore
from tests.kwbp.world import Purchase, World
from tests.storefront.test_evidence_proofs import STAMPED, Stamps
from tests.support.pki_factory import NOW, PkiFactory


@dataclass
class Public:
    """The public service of a hierarchy: stamps and answers, as long as it is there."""

    world: World
    stamps: Stamps
    away: bool = False
    no_time: bool = False
    lists_asked: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    async def trust(self, _now: datetime) -> Trust:
        self.lists_asked += 1
        return self.world.pki.trust()

    async def stamp(self, data: bytes, trust: Trust) -> Timestamp:
        if self.away or self.no_time:
            raise TimestampError("unavailable", clause="RFC 3161 3.4")
        self.asked[TIMESTAMP] += 1
        return verify_token(self.stamps.token(data), data, trust=trust, nonce=1)

    async def ask(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer:
        if self.away:
            raise OcspError("unavailable", clause="RFC 6960 A.1")
        self.asked[str(certificate.serial_number)] += 1
        der = self.stamps.status(certificate)
        return OcspAnswer(der, verify_ocsp(der, certificate=certificate, issuer=issuer, now=now))


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def purchase(world: World) -> Purchase:
    return world.purchase()


@pytest.fixture
def public(world: World) -> Public:
    return Public(world, Stamps(world.pki))


async def answered(store: OrderStore, purchase: Purchase, number: int = 0) -> bytes:
    """An order that the gateway answered, told apart by `number`; its XID."""
    rrpid = number.to_bytes(19, "big")
    xid = purchase.invoice.invoice.body.xid
    documents = {
        Document.INVOICE_REQUEST: purchase.request_signed,
        Document.INVOICE: purchase.invoice_signed,
        Document.INVOICE_ANSWER: purchase.invoice_message,
    }
    await store.create(xid=xid, rrpid=b"\1" + rrpid, h_request=b"\2" * 32, amount=1, stored=documents, now=NOW)
    await store.order(xid, rrpid=b"\3" + rrpid, purchase=purchase.preq_message, now=NOW)
    stored = {Document.AUTH_RES: purchase.auth_res_signed}
    await store.move(xid, OrderState.PAID_PENDING, OrderState.AUTHORISED, now=NOW, stored=stored)
    return xid


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110  # a database tells nobody
            await asyncio.sleep(0.01)


def collector(store: OrderStore, public: Public, checkpoint: Callable[[str], None] = lambda step: None) -> Proofs:
    return Proofs(store, public, public, public, lambda: STAMPED, checkpoint)


def test_an_answer_serves_the_purchases_of_a_minute_under_the_same_lists(
    tmp_path: Path, world: World, public: Public
) -> None:
    now, first, later = STAMPED, world.pki.trust(), world.pki.trust(NOW + timedelta(seconds=1))
    lists = first
    asked: list[set[int]] = []

    async def trust(_now: datetime) -> Trust:
        return lists

    public.trust = trust  # type: ignore[method-assign]  # a hierarchy that publishes new lists

    async def run(store: OrderStore) -> None:
        nonlocal now, lists
        proofs = Proofs(store, public, public, public, lambda: now)
        proofs.start()
        for number, (seconds, published) in enumerate(((0, first), (60, first), (61, first), (61, later))):
            now, lists = STAMPED + timedelta(seconds=seconds), published
            xid = await answered(store, world.purchase(), number)
            proofs.wake(xid)
            await until(lambda: not store.unproven())
            assert len(store.proofs(xid)) == 9
            asked.append({times for what, times in public.asked.items() if what != TIMESTAMP})
        await proofs.stop()

    store = OrderStore.open(tmp_path / "book.sqlite")
    asyncio.run(run(store))
    assert asked == [{1}, {1}, {2}, {3}]
    store.close()


def test_every_certificate_is_asked_about_once_and_the_answer_is_stamped(
    tmp_path: Path, purchase: Purchase, public: Public
) -> None:
    async def run(store: OrderStore) -> bytes:
        proofs = collector(store, public)
        proofs.start()
        xid = await answered(store, purchase)
        assert store.unproven() == [xid]
        proofs.wake(xid)
        await until(lambda: not store.unproven())
        proofs.wake(xid)
        await proofs.stop()
        return xid

    store = OrderStore.open(tmp_path / "book.sqlite")
    xid = asyncio.run(run(store))
    kept = store.proofs(xid)
    assert set(public.asked.values()) == {1}
    assert len(kept) == len(public.asked) == 9  # four signers, four authorities below the brand, the time
    verify_token(kept[TIMESTAMP], purchase.auth_res_signed, trust=public.world.pki.trust(), nonce=1)
    assert len(store.crls(xid)) == len(list(public.world.pki.trust().crls))
    store.close()


def test_a_public_service_that_is_away_is_asked_again(
    tmp_path: Path, purchase: Purchase, public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_FIRST_PAUSE", 0.01)
    public.away = True

    async def run(store: OrderStore) -> None:
        xid = await answered(store, purchase)
        proofs = collector(store, public)
        proofs.start()
        await asyncio.sleep(0.05)
        assert store.proofs(xid) == {}
        public.away = False
        await until(lambda: not store.unproven())
        await proofs.stop()

    store = OrderStore.open(tmp_path / "book.sqlite")
    asyncio.run(run(store))
    assert set(public.asked.values()) == {1}
    store.close()


def test_an_order_book_that_cannot_be_read_is_read_again(
    tmp_path: Path, purchase: Purchase, public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_FIRST_PAUSE", 0.01)
    failures = [sqlite3.OperationalError("disk I/O error"), ValueError("a row that is none")]

    async def run(store: OrderStore) -> None:
        await answered(store, purchase)
        read = store.unproven

        def faulty() -> list[bytes]:
            if failures:
                raise failures.pop()
            return read()

        monkeypatch.setattr(store, "unproven", faulty)
        proofs = collector(store, public)
        proofs.start()
        await until(lambda: not failures)
        await until(lambda: not read())
        await proofs.stop()

    store = OrderStore.open(tmp_path / "book.sqlite")
    asyncio.run(run(store))
    assert set(public.asked.values()) == {1}
    store.close()


def test_what_was_stored_before_a_fall_is_not_asked_for_again(
    tmp_path: Path, purchase: Purchase, public: Public
) -> None:
    fallen = asyncio.Event()

    def fall(step: str) -> None:
        assert step == "stamped"
        fallen.set()
        raise asyncio.CancelledError

    async def first() -> bytes:
        store = OrderStore.open(tmp_path / "book.sqlite")
        xid = await answered(store, purchase)
        proofs = collector(store, public, fall)
        proofs.start()
        await fallen.wait()
        await proofs.stop()
        assert store.unproven() == []
        assert len(store.proofs(xid)) == len(public.asked) > 0
        store.close()
        return xid

    async def again(store: OrderStore) -> None:
        proofs = collector(store, public)
        proofs.start()
        await until(lambda: not store.unproven())
        await proofs.stop()

    xid = asyncio.run(first())
    store = OrderStore.open(tmp_path / "book.sqlite")
    asyncio.run(again(store))
    assert set(public.asked.values()) == {1}
    assert len(store.proofs(xid)) == 9
    store.close()


def test_what_was_answered_is_stored_although_the_time_is_missing(
    tmp_path: Path, purchase: Purchase, public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_FIRST_PAUSE", 0.01)
    public.no_time = True

    async def run(store: OrderStore) -> None:
        xid = await answered(store, purchase)
        proofs = collector(store, public)
        proofs.start()
        await until(lambda: len(store.proofs(xid)) == 8)
        assert store.unproven() == [xid]
        public.no_time = False
        await until(lambda: not store.unproven())
        await proofs.stop()

    store = OrderStore.open(tmp_path / "book.sqlite")
    asyncio.run(run(store))
    assert set(public.asked.values()) == {1}
    store.close()


def test_purchases_that_wait_are_proven_under_lists_that_are_asked_for_once(
    tmp_path: Path, world: World, public: Public
) -> None:
    async def run(store: OrderStore) -> None:
        for number in range(3):
            await answered(store, world.purchase(), number)
        proofs = collector(store, public)
        proofs.start()
        await until(lambda: not store.unproven())
        await proofs.stop()

    store = OrderStore.open(tmp_path / "book.sqlite")
    asyncio.run(run(store))
    assert public.lists_asked == 1
    store.close()
