"""The client between services, its direct face, against servers that do what ours never should."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from runtime.keepalive import LARGEST_ANSWER, KeepAliveClient

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def server(handle: Handle) -> AsyncIterator[str]:
    """A server on the loopback that handles each connection with `handle`, then closes it."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def answering(answer: bytes) -> Handle:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return handle


def ask_direct(handle: Handle, *, timeout: float = 30.0) -> httpx.Response:  # no coroutine
    async def main() -> httpx.Response:
        async with server(handle) as url:
            transport = KeepAliveClient(url, None, timeout=timeout)
            try:
                return await transport.post("/v1/x", content=b"body", headers={"content-type": "application/json"})
            finally:
                await transport.aclose()

    return asyncio.run(main())


def test_a_request_and_its_answer() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)
        await writer.drain()

    answer = ask_direct(handle)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"{}", "application/json")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/x HTTP/1.1"
    assert lines[1].startswith(b"Host: 127.0.0.1:")
    assert lines[2:] == [b"content-type: application/json", b"Content-Length: 4"]
    assert body == b"body"


def test_an_answer_in_pieces_and_chunks_is_put_together() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in b"HTTP/1.1 422 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n":
            writer.write(bytes((byte,)))
            await writer.drain()

    answer = ask_direct(handle)
    assert (answer.status_code, answer.content) == (422, b"abcde")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncont",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (LARGEST_ANSWER + 1) + bytes(LARGEST_ANSWER + 1),
    ],
    ids=["nothing", "half a body", "half a head", "no HTTP", "endless"],
)
def test_an_answer_that_is_none_is_a_transport_error(answer: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        ask_direct(answering(answer))


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_told() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    with pytest.raises(httpx.ReadTimeout):
        ask_direct(silent, timeout=0.05)


def test_a_server_that_is_not_there_is_a_transport_error() -> None:
    async def main() -> None:
        async with server(answering(OK)) as url:
            pass
        with pytest.raises(httpx.ConnectError):
            await KeepAliveClient(url, None).request("GET", "/")

    asyncio.run(main())


def test_a_connection_is_used_again_and_one_that_was_closed_while_idle_is_replaced() -> None:
    connections: list[int] = []

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        for _ in range(2):
            await read_request(reader)
            connections[-1] += 1
            writer.write(OK)
            await writer.drain()

    async def main() -> None:
        async with server(twice) as url:
            transport = KeepAliveClient(url, None)
            for _ in range(4):
                assert (await transport.request("GET", "/")).status_code == 200
                await asyncio.sleep(0.01)
            await transport.aclose()

    asyncio.run(main())
    assert connections == [2, 2]


def test_a_request_that_a_fresh_connection_swallowed_is_not_repeated() -> None:
    requests: list[bytes] = []

    async def swallow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))

    with pytest.raises(httpx.RemoteProtocolError):
        ask_direct(swallow)
    assert len(requests) == 1


def test_a_connection_that_the_server_ends_with_its_answer_is_not_used_again() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    count = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await answering(closing)(reader, writer)

    async def main() -> None:
        async with server(once) as url:
            transport = KeepAliveClient(url, None)
            for _ in range(3):
                assert (await transport.request("GET", "/")).content == b"{}"
            await transport.aclose()

    asyncio.run(main())
    assert count == 3


def test_no_more_connections_are_open_than_told() -> None:
    count, most, release = 0, 0, asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count, most
        while True:
            try:
                await read_request(reader)
            except asyncio.IncompleteReadError:
                return
            count += 1
            most = max(most, count)
            if count == 2:
                release.set()
            await release.wait()
            count -= 1
            writer.write(OK)
            await writer.drain()

    async def main() -> None:
        async with server(slow) as url:
            transport = KeepAliveClient(url, None, connections=2)
            await asyncio.gather(*(transport.request("GET", "/") for _ in range(8)))
            await transport.aclose()

    asyncio.run(main())
    assert most == 2


def test_a_caller_who_gives_up_leaves_no_answer_for_the_next() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await read_request(reader)
            if b"/late" in request:
                await go_on.wait()
            writer.write(OK.replace(b"{}", request.split(b" ")[1][1:3]))
            await writer.drain()
            await reader.read(1)

        async with server(late) as url:
            transport = KeepAliveClient(url, None)
            given_up = asyncio.ensure_future(transport.request("GET", "/late"))
            await asyncio.sleep(0.02)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            go_on.set()
            assert (await transport.request("GET", "/now")).content == b"no"
            await transport.aclose()

    asyncio.run(main())


def test_an_answer_to_no_question_ends_the_connection() -> None:
    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(OK)(reader, writer)
        await asyncio.sleep(0.01)
        writer.write(OK.replace(b"{}", b"[]"))
        await writer.drain()
        await reader.read(1)

    async def main() -> None:
        async with server(talkative) as url:
            transport = KeepAliveClient(url, None)
            for _ in range(3):
                assert (await transport.request("GET", "/")).content == b"{}"
                await asyncio.sleep(0.05)
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", {}),
        ("/a\r\nX: 1", {}),
        ("/فروشگاه", {}),
        ("", {}),
        ("/", {"a": "1\r\nb: 2"}),
        ("/", {"a": "1\nb: 2"}),
        ("/", {"a: 1\r\nb": "2"}),
        ("/", {"a": "\0"}),
    ],
)
def test_a_path_or_header_that_would_be_another_request_is_not_sent(path: str, headers: dict[str, str]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError):
            await KeepAliveClient("http://127.0.0.1:1", None).request("GET", path, headers=headers)

    asyncio.run(main())


def test_a_smaller_bound_of_answers_holds() -> None:
    async def main() -> None:
        async with server(answering(OK)) as url:
            client = KeepAliveClient(url, None, largest_answer=len(OK))
            assert (await client.request("GET", "/")).content == b"{}"
            await client.aclose()
            client = KeepAliveClient(url, None, largest_answer=len(OK) - 1)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.request("GET", "/")

    asyncio.run(main())


def test_a_request_that_a_used_connection_swallowed_is_not_repeated() -> None:
    requests: list[bytes] = []

    async def dies_at_work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(OK)(reader, writer)
        requests.append(await read_request(reader))

    async def main() -> None:
        async with server(dies_at_work) as url:
            client = KeepAliveClient(url, None)
            assert (await client.request("GET", "/")).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await client.request("POST", "/work", content=b"once")

    asyncio.run(main())
    assert len(requests) == 1


def test_an_end_that_the_event_loop_has_not_seen_is_seen_before_the_request_is_written() -> None:
    """The server is blocking, so that it can close while the client's event loop stands still."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_once() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(OK)
                hang_up.wait(30)
            closed.set()

        hang_up, closed = threading.Event(), threading.Event()

        async def main() -> None:
            client = KeepAliveClient(f"http://127.0.0.1:{listening.getsockname()[1]}", None)
            for _ in range(3):
                hang_up.clear()
                closed.clear()
                thread = threading.Thread(target=serve_once)
                thread.start()
                assert (await client.request("POST", "/", content=b"once")).content == b"{}"
                hang_up.set()
                closed.wait(30)  # blocks the event loop
                thread.join()

        asyncio.run(main())


def test_an_interim_answer_is_not_the_answer() -> None:
    answer = ask_direct(answering(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK))
    assert (answer.status_code, answer.content, "link" in answer.headers) == (200, b"{}", False)


def test_a_trailer_is_not_a_header() -> None:
    answer = ask_direct(answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nstatus: paid\r\n\r\n"))
    assert "status" not in answer.headers


@pytest.mark.parametrize("second", [OK.replace(b"{}", b"[]"), b"HTTP/1.1 200", b"noise"])
def test_what_follows_an_answer_is_not_taken_for_the_next(second: bytes) -> None:
    connections = 0

    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK + second)(reader, writer)
        await reader.read(1)

    async def main() -> None:
        async with server(talkative) as url:
            client = KeepAliveClient(url, None)
            for _ in range(3):
                assert (await client.request("GET", "/")).content == b"{}"
            await client.aclose()

    asyncio.run(main())
    assert connections == 3


def test_a_connection_broken_by_force_is_a_read_error() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    with pytest.raises(httpx.ReadError):
        ask_direct(reset)


def test_what_is_under_way_when_the_client_is_closed_comes_to_its_end() -> None:
    ended = asyncio.Event()

    async def main() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            asked.set()
            await go_on.wait()
            writer.write(OK)
            await writer.drain()
            assert await reader.read(1) == b""
            ended.set()

        async with server(late) as url:
            client = KeepAliveClient(url, None)
            waiting = asyncio.ensure_future(client.request("GET", "/"))
            await asked.wait()
            await client.aclose()
            go_on.set()
            assert (await waiting).content == b"{}"
            await ended.wait()

    asyncio.run(main())
