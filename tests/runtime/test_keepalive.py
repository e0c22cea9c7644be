"""The transport between services under httpx: kept-alive, bounded, and never sending a request twice."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from runtime.client import TlsFiles, client_context
from runtime.identity import caller_of
from runtime.keepalive import LARGEST_ANSWER, LARGEST_HEAD, KeepAliveClient, KeepAliveTransport
from runtime.server import start

Issue = Callable[..., TlsFiles]
ZIPPED = gzip.compress(b"{}")


async def _echo(request: Request) -> Response:
    return Response(await request.body(), headers={"x-caller": str(caller_of(request.scope))})


async def _chunks(_request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"in ", b"three ", b"parts"):
            yield part

    return StreamingResponse(parts())


async def _port(request: Request) -> Response:
    assert request.client is not None
    return Response(str(request.client.port))


async def _slow(_request: Request) -> Response:
    await asyncio.sleep(0.3)
    return Response(b"late")


_HELD: Final = threading.Event()


async def _held(_request: Request) -> Response:
    """The answer of a server that takes as long as the test says, however busy the machine is."""
    await asyncio.to_thread(_HELD.wait, 60)
    return Response(b"late")


APP = Starlette(
    routes=[
        Route("/echo", _echo, methods=["POST"]),
        Route("/chunks", _chunks),
        Route("/port", _port),
        Route("/slow", _slow),
        Route("/held", _held),
    ]
)


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with start(APP, tls=None, client_certificate="none") as url:
        yield url


def ask(
    url: str, work: Callable[[httpx.AsyncClient], Awaitable[None]], *, tls: TlsFiles | None = None, connections: int = 4
) -> None:
    async def run() -> None:
        context = client_context(tls) if tls is not None else None
        transport = KeepAliveTransport(url, context, connections=connections)
        async with httpx.AsyncClient(base_url=url, transport=transport, timeout=10) as client:
            await work(client)

    asyncio.run(run())


@asynccontextmanager
async def _peer(answer: bytes, *, hang_up: bool = True) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says `answer` to whatever comes; yields its URL and what came."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if hang_up:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", received


def test_requests_and_answers_pass_whole(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        body = bytes(range(256)) * 500
        response = await client.post("/echo", content=body)
        assert (response.status_code, response.content) == (200, body)
        assert (await client.get("/chunks")).text == "in three parts"
        assert (await client.get("/nowhere")).status_code == 404

    ask(plain, work)


def test_the_caller_is_the_client_certificate(issue: Issue) -> None:
    gateway, server = issue("gateway", uri="urn:kwbp:service:gateway"), issue("server")

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/echo", content=b"x")).headers["x-caller"] == "service:gateway"

    with start(APP, tls=server) as url:
        ask(url, work, tls=gateway)


def test_a_server_of_another_root_is_not_spoken_to(issue: Issue) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ConnectError):
            await client.post("/echo", content=b"x")

    server = issue("foreign-server", root="foreign")
    # The foreign server trusts our root for clients, so that only its own certificate is wrong.
    with start(APP, tls=server, client_certificate="none") as url:
        ask(url, work, tls=issue("caller", uri="urn:kwbp:service:ra"))


@pytest.mark.parametrize("face", [KeepAliveTransport, KeepAliveClient])
@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "no address", "ftp://127.0.0.1:1", "http://[::1", ""])
def test_an_address_and_its_protection_belong_together(face: Callable[..., object], url: str) -> None:
    with pytest.raises(ValueError):
        face(url, None)


def test_trust_anchors_are_for_an_https_address(issue: Issue) -> None:
    context = client_context(issue("caller"))
    with pytest.raises(ValueError):
        KeepAliveClient("http://127.0.0.1:1", context)


@pytest.mark.parametrize("other", ["http://localhost/port", "https://127.0.0.1/port", "http://127.0.0.1:1/port"])
def test_another_server_is_not_asked(plain: str, other: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.get("/port")).status_code == 200
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get(other)
        assert (await client.get(f"{plain}/port")).status_code == 200

    ask(plain, work)


def test_a_body_of_unknown_length_and_an_answer_without_one(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield b"two "
            yield b"parts"

        assert (await client.post("/echo", content=parts())).content == b"two parts"
        head = await client.head("/port")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
        assert (await client.get("/port")).status_code == 200

    ask(plain, work, connections=1)


def test_a_header_with_a_line_break_is_not_sent(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get("/port", headers={"a": "1\r\nb: 2"})

    ask(plain, work)


def test_one_connection_serves_many_requests(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        assert len({(await client.get("/port")).text for _ in range(20)}) == 1

    ask(plain, work)


def test_connections_are_bounded(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.get("/slow") for _ in range(6)))
        assert {answer.text for answer in answers} == {"late"}
        ports = await asyncio.gather(*(client.get("/port") for _ in range(6)))
        assert len({answer.text for answer in ports}) <= 3

    ask(plain, work, connections=3)


def test_waiting_for_a_connection_ends_too(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        _HELD.clear()
        first = asyncio.create_task(client.get("/held", timeout=60))
        await asyncio.sleep(0.05)
        with pytest.raises(httpx.PoolTimeout):
            await client.get("/port", timeout=httpx.Timeout(60, pool=0.05))
        _HELD.set()
        assert (await first).text == "late"

    ask(plain, work, connections=1)


def test_an_answer_after_the_deadline_is_not_taken_for_the_next_one(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        _HELD.clear()
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/held", timeout=httpx.Timeout(60, read=0.05))
        _HELD.set()
        assert (await client.post("/echo", content=b"mine")).content == b"mine"

    ask(plain, work, connections=1)


def test_a_cancelled_request_leaves_nothing_behind_for_the_next_one(plain: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        task = asyncio.create_task(client.get("/slow"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await client.post("/echo", content=b"mine")).content == b"mine"

    ask(plain, work, connections=1)


def test_a_connection_that_the_server_closed_while_idle_is_not_used(plain: str) -> None:
    async def scenario() -> None:
        async with _peer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as (url, received):
            async with httpx.AsyncClient(base_url=url, transport=KeepAliveTransport(url, None)) as client:
                for _ in range(3):
                    assert (await client.get("/")).text == "ok"
                    await asyncio.sleep(0.05)  # the server's FIN arrives
                assert len(received) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncont",
        b"HTTP/1.1 200 OK\r\n\r\nup to the end",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: ours\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (LARGEST_ANSWER + 1) + bytes(LARGEST_ANSWER + 1),
        b"HTTP/1.1 200 OK\r\na: " + b"b" * (LARGEST_HEAD * 8),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * (LARGEST_HEAD // 8),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
    ],
    ids=[
        "nothing",
        "half a body",
        "half a head",
        "half a header",
        "no length",
        "an interim answer only",
        "no HTTP",
        "another protocol",
        "negative length",
        "too much",
        "endless head",
        "endless interim answers",
        "compressed",
    ],
)
def test_half_an_answer_is_none(answer: bytes) -> None:
    async def scenario() -> None:
        async with _peer(answer) as (url, received):
            async with httpx.AsyncClient(base_url=url, transport=KeepAliveTransport(url, None)) as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get("/")
            assert len(received) == 1  # and it was not sent again

    asyncio.run(scenario())


def test_a_server_that_wants_the_connection_closed_gets_it() -> None:
    async def scenario() -> None:
        answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
        async with _peer(answer, hang_up=False) as (url, received):
            async with httpx.AsyncClient(base_url=url, transport=KeepAliveTransport(url, None)) as client:
                assert (await client.get("/")).text == "ok"
                assert (await client.get("/")).text == "ok"
            assert len(received) == 2

    asyncio.run(scenario())


def test_nobody_listening_is_a_connect_error() -> None:
    async def work(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")

    ask("http://127.0.0.1:1", work)
