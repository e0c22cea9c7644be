"""Both clients against the real service behind a gate that turns calls away, or loses their answers, on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from hsm_service import calls
from hsm_service.app import create_app
from hsm_service.async_client import AsyncHsmClient
from hsm_service.client import HsmClient
from hsm_service.retry import ONCE, PATIENT, UNKEYED, RetryPolicy
from hsm_service.service import Basis, SignCommand, SignKind
from hsm_service.wire import BatchItem
from runtime.client import client_context, http_client
from runtime.keepalive import KeepAliveClient
from runtime.problems import Problem
from runtime.server import start
from tests.support.signing_site import ACK, OPERATOR, SHOP, Served, acknowledgement, refusal

LOST = "lost"
"""The service did what it was asked; the connection breaks before the answer."""


class Gate:
    """ASGI middleware: one fault of `faults` for each request, then none. `seen` are their idempotency keys."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.faults: list[Problem | str] = []
        self.seen: list[str | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        self.seen.append(headers[b"idempotency-key"].decode() if b"idempotency-key" in headers else None)
        fault = self.faults.pop(0) if self.faults else None
        if fault is None:
            await self.app(scope, receive, send)
        elif isinstance(fault, Problem):
            await fault.response()(scope, receive, send)
        else:
            await self.app(scope, receive, _nowhere)
            scope["kwbp.cycle"].transport.abort()


async def _nowhere(_message: Any) -> None:
    """An answer that is lost."""


def busy(status: int = 503, after: str | None = "3") -> Problem:
    return Problem(status, "token-busy", "busy", headers={} if after is None else {"Retry-After": after})


class Site:
    """The gate, and clients of what is behind it whose pauses are written down instead of waited for."""

    def __init__(self, url: str, gate: Gate, served: Served) -> None:
        self.url = url
        self.gate = gate
        self.served = served
        self.pauses: list[float] = []
        self._now = 0.0

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._now += seconds

    async def _sleep_async(self, seconds: float) -> None:
        self._sleep(seconds)

    @contextmanager
    def client(self, kind: str, retry: RetryPolicy = PATIENT, caller: str = SHOP) -> Iterator[Any]:
        self.gate.faults.clear()
        self.gate.seen.clear()
        tls, times = self.served.identity(caller), {"clock": lambda: self._now, "draw": lambda: 0.5}
        if kind == "blocking":
            with HsmClient(http_client(tls, self.url), retry=retry, sleep=self._sleep, **times) as client:
                yield client
            return
        with asyncio.Runner() as runner:

            async def make() -> AsyncHsmClient:
                transport = KeepAliveClient(self.url, client_context(tls))
                return AsyncHsmClient(transport, retry=retry, sleep=self._sleep_async, **times)

            client_of_loop = runner.run(make())
            yield _Blocking(runner, client_of_loop)
            runner.run(client_of_loop.close())


class _Blocking:
    def __init__(self, runner: asyncio.Runner, client: AsyncHsmClient) -> None:
        self._runner = runner
        self._client = client

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *arguments, **named: self._runner.run(getattr(self._client, method)(*arguments, **named))


@pytest.fixture(scope="module")
def gate(served: Served) -> Iterator[tuple[str, Gate]]:
    gate = Gate(create_app(served.vault))
    with start(gate, tls=served.tls("hsm")) as url:
        yield url, gate


@pytest.fixture
def site(gate: tuple[str, Gate], served: Served) -> Site:
    return Site(*gate, served)


both = pytest.mark.parametrize("kind", ["blocking", "asynchronous"])


def done(served: Served) -> int:
    return sum(entry.get("result") == "done" for entry in served.world.journal())


@both
@pytest.mark.parametrize("status", [429, 503])
def test_who_is_turned_away_comes_back_when_told(kind: str, status: int, site: Site) -> None:
    with site.client(kind) as client:
        site.gate.faults = [busy(status), busy(status)]
        assert client.sign_cms("shop-ec", ACK, acknowledgement())
    assert site.pauses == [3.05, 3.1]
    assert len(site.gate.seen) == 3


@both
def test_one_idempotency_key_serves_all_attempts_of_a_call_and_no_other_call(kind: str, site: Site) -> None:
    with site.client(kind) as client:
        site.gate.faults = [busy()]
        client.sign_cms("shop-ec", ACK, acknowledgement())
        client.sign_cms("shop-ec", ACK, acknowledgement())
    first, again, second = site.gate.seen
    assert first == again is not None
    assert second not in {first, None}


@both
def test_a_signature_whose_answer_was_lost_is_given_again_and_not_made_again(kind: str, site: Site) -> None:
    before = done(site.served)
    with site.client(kind) as client:
        site.gate.faults = [LOST]
        answer = client.sign("shop-ec", "cms", acknowledgement(), content_type=ACK)
    assert done(site.served) == before + 1
    assert answer.log_index == len(site.served.world.journal()) - 1
    assert len(site.gate.seen) == 2


@both
def test_a_batch_and_an_attestation_whose_answers_were_lost_are_given_again(kind: str, site: Site) -> None:
    before = done(site.served)
    with site.client(kind) as client:
        site.gate.faults = [LOST]
        answer = client.batch_sign("shop-ec", "cms", [BatchItem(acknowledgement(), ACK, ref="a")])
        assert [item.ref for item in answer.items] == ["a"]
        site.gate.faults = [LOST]
        assert client.attest_key("shop-ec")
    assert done(site.served) == before + 2


@both
def test_what_changes_nothing_is_asked_again_without_a_key(kind: str, site: Site) -> None:
    command = SignCommand("cms", acknowledgement(), ACK)
    with site.client(kind) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.describe_key("shop"),
            lambda: client.describe_version("shop", 1),
            lambda: client.list_versions("shop"),
            lambda: client.list_keys(),
            lambda: client.certificate_chain("shop"),
            lambda: client.dry_run("shop", command),
        ]
        for call in calls:
            site.gate.seen.clear()
            site.gate.faults = [LOST]
            assert call()
            assert site.gate.seen == [None, None]


@both
@pytest.mark.parametrize("policy", [ONCE, UNKEYED], ids=["once", "unkeyed"])
def test_without_a_key_a_lost_signature_is_not_asked_for_again(kind: str, policy: RetryPolicy, site: Site) -> None:
    with site.client(kind, policy) as client:
        site.gate.faults = [LOST]
        refusal(lambda: client.sign_cms("shop-ec", ACK, acknowledgement()), 503, "hsm-unreachable")
    assert site.gate.seen == [None]
    assert site.pauses == []


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 502])
def test_what_was_refused_is_not_asked_again(kind: str, status: int, site: Site) -> None:
    with site.client(kind) as client:
        site.gate.faults = [busy(status)]
        refusal(lambda: client.sign_cms("shop-ec", ACK, acknowledgement()), status, "token-busy")
    assert len(site.gate.seen) == 1


@both
def test_where_waiting_does_not_help_nobody_waits(kind: str, site: Site) -> None:
    with site.client(kind) as client:
        site.gate.faults = [busy(after=None)]
        refusal(lambda: client.describe_key("shop"), 503, "token-busy")
    assert site.pauses == []


@both
def test_attempts_and_time_are_bounded_and_the_last_answer_is_told_whole(kind: str, site: Site) -> None:
    with site.client(kind) as client:
        site.gate.faults = [busy() for _ in range(9)]
        problem = refusal(lambda: client.describe_key("shop"), 503, "token-busy")
        assert problem.headers["Retry-After"] == "3"
        assert len(site.gate.seen) == len(site.pauses) + 1 == 4  # 3 pauses of about 3 s; a fourth ends after 10 s
        site.pauses.clear()
        site.gate.faults = [busy(after="60")]
        refusal(lambda: client.describe_key("shop"), 503, "token-busy")
    assert site.pauses == []


@both
def test_once_leaves_the_schedule_to_the_caller(kind: str, site: Site) -> None:
    with site.client(kind, ONCE) as client:
        site.gate.faults = [busy()]
        refusal(lambda: client.describe_key("shop"), 503, "token-busy")
    assert len(site.gate.seen) == 1


@both
def test_a_service_that_is_not_there_is_looked_for_more_than_once(kind: str, site: Site) -> None:
    site.url = "https://127.0.0.1:1"
    with site.client(kind) as client:
        problem = refusal(lambda: client.sign_cms("shop-ec", ACK, acknowledgement()), 503, "hsm-unreachable")
    assert isinstance(problem.__cause__, httpx.ConnectError)
    assert site.pauses == [0.05, 0.1, 0.2]


@both
def test_a_request_for_a_key_whose_answer_was_lost_is_the_same_request(kind: str, site: Site) -> None:
    with site.client(kind, caller=OPERATOR) as client:
        site.gate.faults = [LOST]
        refusal(lambda: client.generate_key(f"lost-{kind}", "merchant-signing-ec", owner="M-1"), 202, "approval-needed")
    open_requests = [each for each in site.served.vault.operations.list("officer:any") if f"lost-{kind}" in str(each)]
    assert len(open_requests) == 1


def test_a_certificate_is_asked_for_under_a_key_that_outlives_the_process_and_all_else_is_not() -> None:
    def key(kind: SignKind, tbs: bytes, basis: bytes = b"case") -> str | None:
        return calls.sign("merchant-ca", SignCommand(kind, tbs, None, Basis(basis, ())), None).key

    assert key("certificate", b"tbs") == key("certificate", b"tbs") is not None
    assert len({key("certificate", b"tbs"), key("certificate", b"other"), key("certificate", b"tbs", b"other")}) == 3
    assert key("cms", b"tbs") is None
