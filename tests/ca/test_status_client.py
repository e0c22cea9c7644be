"""Relying parties: a revocation counts in the next decision, and without status there is no decision."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import StatusError
from ca.repository import create_app
from ca.status_client import AsyncStatusCache, StatusCache
from ca.store import CertificateRecord
from pki.errors import PathError
from pki.path import Trust, validate_path
from pki.roles import Role
from runtime.client import http_client
from runtime.server import start
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office


class Repository:
    """The real repository over HTTP, counting what it is asked, and the client to ask it with."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []

    def count(self, request: httpx.Request) -> None:
        self.asked.append(request.url.path)

    async def count_async(self, request: httpx.Request) -> None:
        self.count(request)

    def cache(self, world: CaWorld, max_age: float = 0.0) -> StatusCache:
        client = httpx.Client(base_url=self.url, event_hooks={"request": [self.count]}, trust_env=False)
        hierarchy = world.authority.hierarchy
        return StatusCache(self.url, hierarchy.anchors, hierarchy.intermediates, max_age, client=client)


@pytest.fixture
def repository(world: CaWorld) -> Iterator[Repository]:
    with start(create_app(world.folder), tls=None) as url:
        yield Repository(url)


@pytest.fixture
def merchant(world: CaWorld) -> CertificateRecord:
    return world.authority.issuance.issue(world.approved_merchant())["signing"]


def accepts(trust: Trust, record: CertificateRecord, world: CaWorld) -> bool:
    """Whether the merchant is believed; any other reason than revocation is a fault of the test."""
    try:
        validate_path(record.certificate, trust=trust, now=world.clock.now, roles=[Role.MERCHANT])
    except PathError as error:
        if error.reason != "revoked":
            raise
        return False
    return True


def test_a_revocation_counts_in_the_next_decision(
    repository: Repository, world: CaWorld, office: Office, merchant: CertificateRecord
) -> None:
    cache = repository.cache(world)
    assert accepts(cache.trust(world.clock.now), merchant, world)

    world.authority.revocation.apply(office.revocation(merchant.certificate, office.vetter))

    assert not accepts(cache.trust(world.clock.now), merchant, world)


def test_only_what_changed_is_fetched(
    repository: Repository, world: CaWorld, office: Office, merchant: CertificateRecord
) -> None:
    cache = repository.cache(world)
    cache.trust(world.clock.now)
    assert len(repository.asked) == 7  # the status and six CRLs
    repository.asked.clear()

    first = cache.trust(world.clock.now)
    world.authority.revocation.apply(office.revocation(merchant.certificate, office.vetter))
    second = cache.trust(world.clock.now)

    assert repository.asked == ["/status", "/status", "/crls/merchant-ca.crl"]
    assert first.crls.digest != second.crls.digest


def test_an_unchanged_status_gives_the_same_trust_object(repository: Repository, world: CaWorld) -> None:
    cache = repository.cache(world)

    assert cache.trust(world.clock.now) is cache.trust(world.clock.now)


def test_within_max_age_nobody_is_asked(repository: Repository, world: CaWorld) -> None:
    cache = repository.cache(world, max_age=10)
    cache.trust(world.clock.now)
    repository.asked.clear()

    cache.trust(world.clock.now + timedelta(seconds=10))
    assert repository.asked == []
    cache.trust(world.clock.now + timedelta(seconds=11))
    assert repository.asked == ["/status"]
    cache.trust(world.clock.now - timedelta(seconds=1))  # a clock that was set back proves no freshness
    assert len(repository.asked) == 2


def test_an_unreachable_repository_means_no_decision(world: CaWorld) -> None:
    with start(create_app(world.folder), tls=None) as url:
        cache = Repository(url).cache(world)
        cache.trust(world.clock.now)

    with pytest.raises(StatusError, match="does not answer"):
        cache.trust(world.clock.now)
    cache.close()


def test_a_crl_past_its_end_fails_every_path_under_it(
    repository: Repository, world: CaWorld, merchant: CertificateRecord
) -> None:
    later = world.clock.now + timedelta(days=3)
    trust = repository.cache(world).trust(later)

    with pytest.raises(PathError, match="crl_expired"):
        validate_path(merchant.certificate, trust=trust, now=later, roles=[Role.MERCHANT])


def replayed(world: CaWorld, answers: Callable[[str], httpx.Response]) -> StatusCache:
    """A cache whose repository is in the hands of an attacker."""
    transport = httpx.MockTransport(lambda request: answers(request.url.path))
    client = httpx.Client(base_url="http://repository.example", transport=transport)
    hierarchy = world.authority.hierarchy
    return StatusCache("", hierarchy.anchors, hierarchy.intermediates, client=client)


class Attacker:
    """Answers with the honest repository's words, until told otherwise."""

    def __init__(self, world: CaWorld) -> None:
        self.world = world
        self.status: list[dict[str, Any]] = []
        self.crls: dict[str, bytes] = {}
        self.record()

    def record(self) -> None:
        with start(create_app(self.world.folder), tls=None) as url, httpx.Client(base_url=url) as client:
            self.status = client.get("/status").json()
            self.crls = {each["issuer"]: client.get(f"/crls/{each['issuer']}.crl").content for each in self.status}

    def __call__(self, path: str) -> httpx.Response:
        if path == "/status":
            return httpx.Response(200, content=json.dumps(self.status))
        return httpx.Response(200, content=self.crls[path.removeprefix("/crls/").removesuffix(".crl")])


def test_an_older_crl_than_one_seen_before_is_refused(
    world: CaWorld, office: Office, merchant: CertificateRecord
) -> None:
    attacker = Attacker(world)
    old_status, old_crls = attacker.status, attacker.crls
    world.authority.revocation.apply(office.revocation(merchant.certificate, office.vetter))
    attacker.record()
    cache = replayed(world, attacker)
    assert not accepts(cache.trust(world.clock.now), merchant, world)

    attacker.status, attacker.crls = old_status, old_crls

    with pytest.raises(StatusError, match="older than one seen before"):
        cache.trust(world.clock.now)


def test_a_crl_that_disappears_is_noticed(world: CaWorld) -> None:
    attacker = Attacker(world)
    cache = replayed(world, attacker)
    cache.trust(world.clock.now)

    attacker.status = [each for each in attacker.status if each["issuer"] != "merchant-ca"]

    with pytest.raises(StatusError, match="no longer has a CRL of merchant-ca"):
        cache.trust(world.clock.now)


def test_a_crl_that_was_never_there_fails_the_paths_under_it(world: CaWorld, merchant: CertificateRecord) -> None:
    attacker = Attacker(world)
    attacker.status = [each for each in attacker.status if each["issuer"] != "merchant-ca"]

    trust = replayed(world, attacker).trust(world.clock.now)

    with pytest.raises(PathError, match="crl_missing"):
        validate_path(merchant.certificate, trust=trust, now=world.clock.now, roles=[Role.MERCHANT])


LIES: dict[str, Callable[[Attacker], None]] = {
    "an empty status": lambda a: a.status.clear(),
    "a status that names one twice": lambda a: a.status.append(a.status[0]),
    "a name that is a path": lambda a: a.status[0].update(issuer="../secrets"),
    "a number that is not the CRL's": lambda a: a.status[0].update(number=1),
    "a CRL that does not match its digest": lambda a: a.crls.update(brand=b"other"),
    "a status without digests": lambda a: a.status[0].pop("sha256"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_repository_that_lies_is_not_believed(world: CaWorld, lie: str) -> None:
    attacker = Attacker(world)
    LIES[lie](attacker)

    with pytest.raises(StatusError):
        replayed(world, attacker).trust(world.clock.now)


def test_a_crl_by_another_key_is_refused(world: CaWorld, fresh_office: Office) -> None:
    attacker = Attacker(world)
    forged = fresh_office.pki.brand.crl(fresh_office.now, number=attacker.status[0]["number"])
    attacker.crls["brand"] = forged.public_bytes(Encoding.DER)
    attacker.status[0]["sha256"] = hashlib.sha256(attacker.crls["brand"]).hexdigest()
    assert attacker.status[0]["issuer"] == "brand"

    with pytest.raises(StatusError, match="CRL of brand is not one"):
        replayed(world, attacker).trust(world.clock.now)


@pytest.mark.parametrize("status", [304, 404, 500])
def test_another_answer_than_a_status_is_no_status(world: CaWorld, status: int) -> None:
    with pytest.raises(StatusError, match=str(status)):
        replayed(world, lambda _path: httpx.Response(status)).trust(world.clock.now)


def test_a_crl_that_cannot_be_fetched_is_an_error(world: CaWorld) -> None:
    attacker = Attacker(world)

    def answers(path: str) -> httpx.Response:
        return attacker(path) if path == "/status" else httpx.Response(404)

    with pytest.raises(StatusError, match="has no CRL of"):
        replayed(world, answers).trust(world.clock.now)


def test_many_waiting_calls_share_one_question(
    repository: Repository, world: CaWorld, office: Office, merchant: CertificateRecord
) -> None:
    hierarchy = world.authority.hierarchy

    async def purchases() -> tuple[list[Trust], list[Trust]]:
        client = httpx.AsyncClient(
            base_url=repository.url, event_hooks={"request": [repository.count_async]}, trust_env=False
        )
        cache = AsyncStatusCache("", hierarchy.anchors, hierarchy.intermediates, client=client)
        await cache.trust(world.clock.now)
        repository.asked.clear()
        before = await asyncio.gather(*(cache.trust(world.clock.now) for _ in range(50)))
        world.authority.revocation.apply(office.revocation(merchant.certificate, office.vetter))
        after = await asyncio.gather(*(cache.trust(world.clock.now) for _ in range(50)))
        await cache.aclose()
        return before, after

    before, after = asyncio.run(purchases())

    assert all(accepts(trust, merchant, world) for trust in before)
    assert not any(accepts(trust, merchant, world) for trust in after)
    assert repository.asked.count("/status") <= 4


def test_asyncio_fails_closed_too(world: CaWorld) -> None:
    hierarchy = world.authority.hierarchy

    async def ask() -> None:
        cache = AsyncStatusCache("http://127.0.0.1:1", hierarchy.anchors, hierarchy.intermediates)
        try:
            await cache.trust(world.clock.now)
        finally:
            await cache.aclose()

    with pytest.raises(StatusError, match="does not answer"):
        asyncio.run(ask())


def test_the_cache_makes_its_own_client(world: CaWorld, tmp_path: Path) -> None:
    hierarchy = world.authority.hierarchy
    with start(create_app(world.folder), tls=None) as url:
        cache = StatusCache(url, hierarchy.anchors, hierarchy.intermediates)
        assert len(cache.trust(world.clock.now).crls) == 6
        cache.close()


def test_a_list_that_is_kept_back_is_noticed_by_the_list_of_all_lists(
    world: CaWorld, merchant: CertificateRecord, office: Office
) -> None:
    attacker = Attacker(world)
    hierarchy = world.authority.hierarchy
    world.authority.revocation.apply(office.revocation(merchant.certificate, office.vetter))
    bci = (world.folder / "bci.p7s").read_bytes()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/bci":
            return httpx.Response(200, content=bci) if bci else httpx.Response(404)
        return attacker(request.url.path)

    client = httpx.Client(base_url="http://repository.example", transport=httpx.MockTransport(answer))
    cache = StatusCache("", hierarchy.anchors, hierarchy.intermediates, client=client, with_bci=True)
    with pytest.raises(StatusError, match="keeps back the full CRL of merchant-ca"):
        cache.trust(world.clock.now)

    attacker.record()
    assert not accepts(cache.trust(world.clock.now), merchant, world)
    with pytest.raises(StatusError, match="list of all CRLs"):  # and one that has ended is asked for anew, in vain
        cache.trust(world.clock.now + timedelta(hours=25))
    good, bci = bci, b""
    fresh = StatusCache("", hierarchy.anchors, hierarchy.intermediates, client=client, with_bci=True)
    with pytest.raises(StatusError, match="has no list of all CRLs"):
        fresh.trust(world.clock.now)
    bci = good.replace(b"merchant-ca", b"merchant-cb")
    with pytest.raises(StatusError, match="is not one"):
        fresh.trust(world.clock.now)


@pytest.mark.parametrize("known", [False, True])
def test_a_list_that_comes_out_while_the_bci_is_fetched_costs_another_look_and_no_decision(
    world: CaWorld, merchant: CertificateRecord, office: Office, known: bool
) -> None:
    hierarchy, now = world.authority.hierarchy, world.clock.now
    lasting = office.pki.root.crl(now, next_update=now + timedelta(days=30), number=99)
    (world.folder / "crls" / "root.crl").write_bytes(lasting.public_bytes(Encoding.DER))
    world.authority.maintain()
    with start(create_app(world.folder), tls=None) as url, http_client(None, url) as client:
        cache = StatusCache(url, hierarchy.anchors, hierarchy.intermediates, client=client, with_bci=True)
        if known:  # then the status is unchanged, and only the BCI has to be fetched, since it ended
            cache.trust(world.clock.now)
            world.clock.forward(timedelta(hours=23))
            world.authority.maintain()
            world.clock.forward(timedelta(hours=1, minutes=1))
        orders = [office.revocation(merchant.certificate, office.vetter)]

        def publish(request: httpx.Request) -> None:
            if request.url.path == "/bci" and orders:
                world.authority.revocation.apply(orders.pop())

        client.event_hooks["request"].append(publish)

        assert not accepts(cache.trust(world.clock.now), merchant, world)
        assert orders == []
