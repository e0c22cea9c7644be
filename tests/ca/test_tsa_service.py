"""The time-stamp authority with a token key, over HTTP: OpenSSL asks and judges; failures are told as in RFC 3161."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from ca import tsa_service
from ca.timestamp_client import AsyncTimestampClient, TimestampClient
from ca.tsa_clock import TrustedClock
from ca.tsa_service import QUERY_TYPE, REPLY_TYPE, RETRY, TimestampAuthority
from hsm_service.client import AsyncHsmClient
from hsm_service.wire import BatchAnswer
from pki import oids
from pki.cms_signed import parse_signed_data
from pki.der import decode
from pki.errors import TimestampError
from pki.timestamp import build_query, read_response, verify_token
from pki.timestamp_structures import Granted, NotGranted, TstInfo
from runtime import problems, server
from tests.support.judges import attime, certtool, openssl, openssl_accepts
from tests.support.once import once_a_run
from tests.support.pki_factory import NOW, pem
from tests.support.signing_site import CEREMONY, World, found, serving

DATA = b"what the gateway answered"
KEY = "timestamp-authority"


@dataclass
class Machine:
    """The clocks of the authority's machine; the HSM service's stands at NOW."""

    wall: datetime = NOW
    monotonic: float = 0.0

    def clock(self) -> TrustedClock:
        return TrustedClock(lambda: self.wall, lambda: self.monotonic)


@dataclass
class Authority:
    """A running authority."""

    url: str
    world: World
    machine: Machine
    vault: Any
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, trust_env=False)

    def post(self, query: bytes, media_type: str = QUERY_TYPE) -> httpx.Response:
        return self.http.post("/tsa", content=query, headers={"content-type": media_type})


@contextlib.contextmanager
def authority(
    world: World, served: Any, hsm_url: str | None = None, machine: Machine | None = None
) -> Iterator[Authority]:
    """An authority that signs with the token key of `served`."""
    machine = machine or Machine()
    tls = served.identity("service:repository")
    tsa = TimestampAuthority(
        lambda: AsyncHsmClient.connect(hsm_url or served.url, tls, timeout=5, retry=RETRY),
        key=KEY,
        clock=machine.clock(),
    )
    app = Starlette(routes=tsa.routes, lifespan=lambda _app: tsa.running())
    problems.install(app)
    with server.start(app, tls=None, client_certificate="none") as url:
        running = Authority(url, world, machine, served.vault)
        try:
            yield running
        finally:
            running.http.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    world = once_a_run(tmp_path_factory, "signing-site", found).copy(tmp_path_factory.mktemp("tsa"))
    with serving(world, tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture(scope="module")
def tsa(served: Any) -> Iterator[Authority]:
    with authority(served.world, served) as running:
        yield running


def info(reply: bytes) -> TstInfo:
    return decode(TstInfo, parse_signed_data(read_response(reply), content_type=oids.CT_TST_INFO).content)


# -- judged by OpenSSL and GnuTLS --------------------------------------------------------------------------------------


@pytest.fixture
def files(served: Any, tmp_path: Path) -> Path:
    (tmp_path / "root.pem").write_bytes(pem(served.world.pki.root.certificate))
    chain = served.vault.key(KEY).pair().chain
    (tmp_path / "chain.pem").write_bytes(pem(*chain))
    (tmp_path / "data").write_bytes(DATA)
    return tmp_path


@pytest.mark.parametrize("digest", ["-sha256", "-sha384", "-sha512"])
@pytest.mark.parametrize("more", [(), ("-cert",), ("-no_nonce",)], ids=["bare", "certificates", "no nonce"])
def test_openssl_asks_and_believes(tsa: Authority, files: Path, digest: str, more: tuple[str, ...]) -> None:
    openssl("ts", "-query", "-data", files / "data", digest, *more, "-out", files / "query")
    reply = tsa.post((files / "query").read_bytes())
    assert (reply.status_code, reply.headers["content-type"]) == (200, REPLY_TYPE)
    (files / "reply").write_bytes(reply.content)
    judge = ("ts", "-verify", "-in", files / "reply", "-CAfile", files / "root.pem", *attime(NOW))
    known = () if "-cert" in more else ("-untrusted", files / "chain.pem")
    openssl(*judge, *known, "-queryfile", files / "query")
    openssl(*judge, *known, "-data", files / "data")
    if "-cert" not in more:  # certificates come only when asked for
        assert not openssl_accepts(*judge, "-data", files / "data")
    shown = openssl("ts", "-reply", "-in", files / "reply", "-text").decode()
    assert "Status: Granted." in shown
    assert f"Policy OID: {oids.POLICY_TIMESTAMP.dotted_string}" in shown
    assert "Accuracy: 0x02 seconds" in shown
    assert "Ordering: no" in shown


def test_gnutls_reads_the_token(tsa: Authority) -> None:
    token = read_response(tsa.post(build_query(DATA, nonce=1)).content)
    assert b"Signers:" in certtool("--p7-info", "--inder", stdin=token)


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        (("-sha1",), "unrecognized or unsupported algorithm"),
        (("-sha3-256",), "unrecognized or unsupported algorithm"),
        (("-sha256", "-tspolicy", "1.2.3.4"), "requested TSA policy is not supported"),
    ],
)
def test_openssl_reads_why_not(tsa: Authority, files: Path, arguments: tuple[str, ...], failure: str) -> None:
    openssl("ts", "-query", "-data", files / "data", *arguments, "-out", files / "query")
    reply = tsa.post((files / "query").read_bytes())
    assert reply.status_code == 200
    (files / "reply").write_bytes(reply.content)
    shown = openssl("ts", "-reply", "-in", files / "reply", "-text").decode()
    assert "Status: Rejected." in shown
    assert failure in shown


# -- our clients -------------------------------------------------------------------------------------------------------


def test_our_clients_ask_and_believe(tsa: Authority) -> None:
    trust = tsa.world.pki.trust()
    client = TimestampClient(tsa.url)
    try:
        stamp = client.stamp(DATA, trust)
    finally:
        client.close()

    async def ask() -> Any:
        other = AsyncTimestampClient(tsa.url)
        try:
            return await other.stamp(DATA, trust)
        finally:
            await other.aclose()

    later = asyncio.run(ask())
    assert stamp.gen_time == later.gen_time == NOW
    assert stamp.serial < later.serial
    assert verify_token(stamp.der, DATA, trust=trust, nonce=info_nonce(stamp.der)).serial == stamp.serial


def info_nonce(token: bytes) -> int | None:
    return decode(TstInfo, parse_signed_data(token, content_type=oids.CT_TST_INFO).content).nonce


def test_a_client_believes_no_other_answer(tsa: Authority) -> None:
    replies: list[Callable[[httpx.Request], httpx.Response]] = [
        lambda request: httpx.Response(503),
        lambda request: httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"}),
        lambda request: httpx.Response(200, content=b"\x30\x00", headers={"content-type": REPLY_TYPE}),
        lambda request: httpx.Response(200, content=bytes(70_000), headers={"content-type": REPLY_TYPE}),
        lambda request: httpx.Response(  # of another question
            200, content=tsa.post(build_query(DATA, nonce=1)).content, headers={"content-type": REPLY_TYPE}
        ),
    ]

    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("no route")

    reasons = []
    for reply in (*replies, unreachable):
        client = TimestampClient(tsa.url, client=httpx.Client(transport=httpx.MockTransport(reply), base_url=tsa.url))
        with pytest.raises(TimestampError) as caught:
            client.stamp(DATA, tsa.world.pki.trust())
        reasons.append(caught.value.reason)
    assert reasons == ["unavailable", "unavailable", "malformed", "unavailable", "wrong_nonce", "unavailable"]

    async def ask() -> None:
        transport = httpx.MockTransport(unreachable)
        other = AsyncTimestampClient(tsa.url, client=httpx.AsyncClient(transport=transport, base_url=tsa.url))
        await other.stamp(DATA, tsa.world.pki.trust())

    with pytest.raises(TimestampError, match="does not answer"):
        asyncio.run(ask())


# -- many at once ------------------------------------------------------------------------------------------------------


def test_requests_of_a_moment_are_signed_together_with_a_number_each(tsa: Authority) -> None:
    before = len(tsa.world.journal())
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda n: tsa.post(build_query(DATA + bytes((n,)), nonce=n)).content, range(60)))
    infos = [info(reply) for reply in replies]
    assert [each.nonce for each in infos] == list(range(60))
    numbers = [each.serial_number for each in infos]
    assert len(set(numbers)) == 60
    intents = [entry for entry in tsa.world.journal()[before:] if entry["event"] == "intent"]
    assert sum(entry["count"] for entry in intents) == 60
    assert len(intents) < 60
    recorded = {int(claim["timestamp_serial"], 16) for entry in intents for claim in entry["claims"]}
    assert recorded == set(numbers)


class Gated:
    """The HSM service's client, whose answers come when the test opens their gates; each lacks `short` items."""

    def __init__(self, client: AsyncHsmClient, short: int) -> None:
        self.client = client
        self.short = short
        self.calls = 0
        self.gates: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def certificate_chain(self, name: str) -> tuple[bytes, ...]:
        return await self.client.certificate_chain(name)

    async def batch_sign(self, name: str, kind: Any, items: Any) -> BatchAnswer:
        self.calls += 1
        answer = await self.client.batch_sign(name, kind, items)
        gate = asyncio.Event()
        self.gates.put_nowait(gate)
        await gate.wait()
        signed = answer.items[: len(answer.items) - self.short]
        return BatchAnswer(key=answer.key, algorithm=answer.algorithm, items=signed)

    async def close(self) -> None:
        await self.client.close()


Asked = asyncio.Task[tuple[bytes, int | None]]


@contextlib.asynccontextmanager
async def gated(served: Any, short: int = 0) -> AsyncIterator[tuple[Gated, Callable[[int], Asked]]]:
    """An authority without HTTP; the function asks it, with a nonce."""
    client = AsyncHsmClient.connect(served.url, served.identity("service:repository"), timeout=5, retry=RETRY)
    signer = Gated(client, short)
    authority = TimestampAuthority(lambda: signer, key=KEY, clock=Machine().clock())
    async with asyncio.timeout(30), authority.running():
        yield signer, lambda nonce: asyncio.create_task(authority.answer(build_query(DATA, nonce=nonce)))


def test_who_asks_in_the_turn_in_which_the_last_batches_end_is_answered(served: Any) -> None:
    async def run() -> list[tuple[bytes, int | None]]:
        async with gated(served) as (signer, ask):
            first, one = ask(1), await signer.gates.get()
            second, two = ask(2), await signer.gates.get()
            one.set()
            two.set()
            third = ask(3)  # and nobody after it
            await asyncio.gather(first, second)
            for _ in range(10):  # turns of the loop
                await asyncio.sleep(0)
            assert signer.calls == 3
            (await signer.gates.get()).set()
            return [await first, await second, await third]

    assert [info(der).nonce for der, _retry_after in asyncio.run(run())] == [1, 2, 3]


def is_system_failure(answer: tuple[bytes, int | None]) -> bool:
    with pytest.raises(TimestampError, match="SYSTEM_FAILURE"):
        read_response(answer[0])
    return answer[1] == 2


def test_whoever_waits_when_the_authority_is_stopped_is_told(served: Any) -> None:
    async def run() -> list[tuple[bytes, int | None]]:
        async with gated(served) as (signer, ask):
            asked = []
            for nonce in (1, 2):
                asked.append(ask(nonce))
                await signer.gates.get()
            asked.append(ask(3))  # two batches are under way: it waits
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            return await asyncio.gather(*asked)

    assert [is_system_failure(answer) for answer in asyncio.run(run())] == [True] * 3


def test_an_answer_of_the_hsm_service_that_lacks_one_is_nobodys(served: Any) -> None:
    async def run() -> tuple[bytes, int | None]:
        async with gated(served, short=1) as (signer, ask):
            asked = ask(1)
            (await signer.gates.get()).set()
            async with asyncio.timeout(5):
                return await asked

    assert is_system_failure(asyncio.run(run()))


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def failure_of(reply: httpx.Response) -> str:
    assert (reply.status_code, reply.headers["content-type"]) == (200, REPLY_TYPE)
    with pytest.raises(TimestampError) as caught:
        read_response(reply.content)
    assert caught.value.reason == "rejected"
    return caught.value.detail.rsplit(" ", 1)[1]


def test_what_is_no_request_at_all_is_refused_by_http(tsa: Authority) -> None:
    assert tsa.post(build_query(DATA, nonce=1), media_type="application/json").status_code == 415
    assert tsa.post(bytes(20_000)).status_code == 413
    assert tsa.http.get("/tsa").status_code == 405


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"\x30\x80\x00\x00", b"{}", b"\xff" * 5000])
def test_garbage_is_answered_and_the_service_goes_on(tsa: Authority, garbage: bytes) -> None:
    reply = tsa.post(garbage)
    assert failure_of(reply) == "BAD_DATA_FORMAT"
    assert "retry-after" not in reply.headers
    assert read_response(tsa.post(build_query(DATA, nonce=1)).content)


def test_a_clock_that_jumps_gives_no_time(served: Any) -> None:
    machine = Machine()
    with authority(served.world, served, machine=machine) as tsa:
        read_response(tsa.post(build_query(DATA, nonce=1)).content)
        machine.wall -= timedelta(seconds=3)
        reply = tsa.post(build_query(DATA, nonce=1))
        assert failure_of(reply) == "TIME_NOT_AVAILABLE"
        assert int(reply.headers["retry-after"]) > 0
        machine.monotonic += 20
        machine.wall += timedelta(seconds=23)  # settled, but 20 s ahead of the HSM service's clock
        tsa.post(build_query(DATA, nonce=1))
        machine.monotonic += 20
        machine.wall += timedelta(seconds=20)
        assert failure_of(tsa.post(build_query(DATA, nonce=1))) == "TIME_NOT_AVAILABLE"


def test_without_the_hsm_service_there_is_no_time_stamp_now(served: Any) -> None:
    with authority(served.world, served, hsm_url="https://127.0.0.1:9") as tsa:
        reply = tsa.post(build_query(DATA, nonce=1))
        assert failure_of(reply) == "SYSTEM_FAILURE"
        assert int(reply.headers["retry-after"]) > 0


def test_a_key_that_is_out_of_use_signs_nothing_until_it_is_back(tsa: Authority) -> None:
    tsa.vault.life.disable(CEREMONY, KEY, 1)
    try:
        reply = tsa.post(build_query(DATA, nonce=1))
        assert failure_of(reply) == "SYSTEM_FAILURE"
        status = decode(NotGranted, reply.content).status
        assert status.status_string == ["the token key cannot sign now"]  # and nothing of what is inside
    finally:
        tsa.vault.life.enable(CEREMONY, KEY, 1)
    assert decode(Granted, tsa.post(build_query(DATA, nonce=1)).content).status.status == 0


def test_when_too_many_wait_the_next_is_turned_away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsa_service, "_MOST_WAITING", 3)

    class Stuck:
        async def certificate_chain(self, name: str) -> tuple[bytes, ...]:
            await asyncio.Event().wait()
            raise AssertionError

        async def batch_sign(self, name: str, kind: str, items: Any) -> Any:
            raise AssertionError

        async def close(self) -> None:
            pass

    async def run() -> list[Any]:
        authority = TimestampAuthority(Stuck)
        async with authority.running():
            asked = []
            for number in range(6):  # two batches are under way, and three wait
                asked.append(asyncio.create_task(authority.answer(build_query(DATA, nonce=number))))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            done, pending = await asyncio.wait(asked, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            return [task.result() for task in done]

    ((der, retry_after),) = asyncio.run(run())
    with pytest.raises(TimestampError, match="SYSTEM_FAILURE"):
        read_response(der)
    assert retry_after == 1
