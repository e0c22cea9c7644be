from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from runtime import health, problems
from runtime.client import TlsFiles, async_http_client, client_context, http_client, raise_problem
from runtime.identity import Caller, caller_of, require
from runtime.problems import Problem
from runtime.server import beside, start
from tests.support.ports import free_port


class Amount(BaseModel):
    rial: int


def make_app() -> FastAPI:
    app = FastAPI()
    problems.install(app)
    health.install(app, "test")

    @app.get("/who")
    async def who(request: Request) -> dict[str, str]:
        return {"caller": str(caller_of(request.scope))}

    @app.get("/ca-only")
    async def ca_only(caller: Caller = Depends(require("service:ca"))) -> dict[str, str]:
        return {"caller": str(caller)}

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    @app.post("/amount")
    async def amount(body: Amount) -> int:
        return body.rial

    @app.get("/refuse")
    async def refuse() -> None:
        raise Problem(409, "self-approval", "an officer may not approve what they opened", clause="CPS 5.2.4")

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("6037701000000007")

    return app


@pytest.fixture(scope="module")
def server(issue: Callable[..., TlsFiles]) -> Iterator[str]:
    with start(make_app(), tls=issue("server"), client_certificate="optional") as url:
        yield url


@pytest.fixture(scope="module")
def ca_client(issue: Callable[..., TlsFiles], server: str) -> Iterator[httpx.Client]:
    with http_client(issue("ca", uri="urn:kwbp:service:ca"), server) as client:
        yield client


def test_the_caller_is_the_client_certificate(ca_client: httpx.Client) -> None:
    assert ca_client.get("/who").json() == {"caller": "service:ca"}
    assert ca_client.get("/ca-only").status_code == 200


def test_the_async_client_presents_its_certificate_too(issue: Callable[..., TlsFiles], server: str) -> None:
    async def call() -> object:
        async with async_http_client(issue("ca-async", uri="urn:kwbp:service:ca"), server) as client:
            return (await client.get("/who")).json()

    assert asyncio.run(call()) == {"caller": "service:ca"}


def test_another_identity_is_forbidden(issue: Callable[..., TlsFiles], server: str) -> None:
    with http_client(issue("shop", uri="urn:kwbp:merchant:shop-1"), server) as client:
        answer = client.get("/ca-only")
    assert answer.status_code == 403
    assert answer.json()["detail"] == "merchant:shop-1 may not do this; it is for service:ca"


@pytest.mark.parametrize(
    ("uri", "usage"),
    [
        (None, "clientAuth"),
        ("urn:kwbp:emperor:ca", "clientAuth"),
        ("urn:kwbp:service:", "clientAuth"),
        ("urn:other:service:ca", "clientAuth"),
    ],
    ids=["no identity", "unknown kind", "no name", "foreign urn"],
)
def test_a_certificate_without_one_identity_is_anonymous(
    issue: Callable[..., TlsFiles], server: str, uri: str | None, usage: str
) -> None:
    with http_client(issue("odd", uri=uri, usage=usage), server) as client:
        assert client.get("/who").json() == {"caller": "anonymous"}
        assert client.get("/ca-only").status_code == 401


def test_a_certificate_without_client_auth_cannot_connect(issue: Callable[..., TlsFiles], server: str) -> None:
    with http_client(issue("signing", uri="urn:kwbp:service:ca", usage="emailProtection"), server) as client:
        with pytest.raises(httpx.TransportError):
            client.get("/who")


def test_a_certificate_of_a_foreign_root_cannot_connect(issue: Callable[..., TlsFiles], server: str) -> None:
    with http_client(issue("stranger", uri="urn:kwbp:service:ca", root="foreign"), server) as client:
        with pytest.raises(httpx.TransportError):
            client.get("/who")


def test_tls_1_2_is_refused(issue: Callable[..., TlsFiles], server: str) -> None:
    context = client_context(issue("old"))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(base_url=server, verify=context, trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            client.get("/who")


def test_no_client_certificate_where_one_is_required(issue: Callable[..., TlsFiles]) -> None:
    files = issue("strict")
    with start(make_app(), tls=files, client_certificate="required") as url:
        with http_client(None, url, ca=files.ca) as client, pytest.raises(httpx.TransportError):
            client.get("/who")


def test_plaintext_is_refused(server: str) -> None:
    with httpx.Client(base_url=server.replace("https", "http"), trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            client.get("/who")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(ca_client: httpx.Client, chunked: bool) -> None:
    size = 256 * 1024
    content = (b"x" * 1024 for _ in range(257)) if chunked else b"x" * (size + 1)
    answer = ca_client.post("/echo", content=content)
    assert answer.status_code == 413
    assert answer.json()["clause"] == "KWBP K1"
    assert ca_client.post("/echo", content=b"x" * size).json() == {"length": size}


def test_a_problem_crosses_the_wire_whole(ca_client: httpx.Client) -> None:
    answer = ca_client.get("/refuse")
    assert answer.headers["content-type"] == "application/problem+json"
    with pytest.raises(Problem) as caught:
        raise_problem(answer)
    assert caught.value.type == "self-approval"
    assert str(caught.value) == "an officer may not approve what they opened (CPS 5.2.4)"


def test_invalid_input_is_named_and_never_echoed(ca_client: httpx.Client) -> None:
    answer = ca_client.post("/amount", json={"rial": "6037701000000007x"})
    assert answer.status_code == 422
    assert "6037701000000007" not in answer.text
    said = "the field body.rial breaks the rule int_parsing"
    assert answer.json()["faults"] == [{"field": "body.rial", "rule": "int_parsing", "message": said}]


def test_an_unexpected_error_shows_nothing(
    ca_client: httpx.Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answer = ca_client.get("/crash")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:kwbp:problem:internal"
    assert "6037701000000007" not in answer.text
    captured = capfd.readouterr()
    assert "6037701000000007" not in captured.out + captured.err + caplog.text


def test_an_unknown_path_is_a_problem_too(ca_client: httpx.Client) -> None:
    answer = ca_client.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:kwbp:problem:not-found"


def test_health_and_metrics_answer(ca_client: httpx.Client) -> None:
    assert ca_client.get("/health/live").json() == {"service": "test", "status": "live"}
    assert ca_client.get("/health/ready").status_code == 200
    assert "python_info" in ca_client.get("/metrics").text


def _raw(server: str, files: TlsFiles, content: bytes, *, answers: int = 0) -> bytes:
    """What the server says to these bytes until it closes, or nothing more comes for a second after so many answers."""
    host, _, port = server.removeprefix("https://").partition(":")
    said = b""
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        client_context(files).wrap_socket(plain, server_hostname=host) as tls,
    ):
        with contextlib.suppress(OSError):
            tls.sendall(content)
        with contextlib.suppress(OSError):
            tls.settimeout(60 if answers else 1)
            while part := tls.recv(65536):
                said += part
                tls.settimeout(60 if said.count(b"HTTP/1.1 ") < answers else 1)
    return said


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /who HTTP/1.1\r\nhost: x\r\nfiller: " + b"x" * 1_000_000,
        b"GET /" + b"x" * 1_000_000,
        b"GET /who HTTP/1.1\r\nhost: x\r\n" + b"filler: x\r\n" * 100_000,
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"filler: x\r\n" * 100_000,
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nfiller: " + b"x" * 1_000_000,
    ],
    ids=["one header", "the path", "many headers", "many trailers", "one trailer"],
)
def test_a_head_without_end_is_cut_off(issue: Callable[..., TlsFiles], server: str, endless: bytes) -> None:
    files = issue("endless", uri="urn:kwbp:service:ca")
    assert _raw(server, files, endless + b"\r\n\r\n") == b""


def test_requests_on_one_connection_each_have_its_caller(issue: Callable[..., TlsFiles], server: str) -> None:
    """Pipelined, with headers that claim to be somebody else."""
    claim = b"x-client-cert: service:ca\r\nx-forwarded-for: 127.0.0.1\r\nforwarded: for=service:ca\r\n"
    request = b"GET /who HTTP/1.1\r\nhost: x\r\n" + claim + b"\r\n"
    said = _raw(server, issue("shop-7", uri="urn:kwbp:merchant:shop-7"), request * 3, answers=3)
    assert said.count(b'{"caller":"merchant:shop-7"}') == 3


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 4\r\ncontent-length: 40\r\n",
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"content-length: +4\r\n",
        b"content-length: 99999999999999999999999999\r\n",
    ],
    ids=["two lengths", "length and chunks", "signed", "beyond 64 bits"],
)
def test_a_request_whose_length_is_unclear_is_refused(issue: Callable[..., TlsFiles], server: str, head: bytes) -> None:
    said = _raw(
        server, issue("smuggler"), b"POST /echo HTTP/1.1\r\nhost: x\r\n" + head + b"\r\nGET /who HTTP/1.1\r\n\r\n"
    )
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1 ") == 1


@contextlib.contextmanager
def _plain_connection(patience: float, keep_alive: float = 65.0) -> Iterator[socket.socket]:
    """A connection to a server of this patience, without TLS."""
    with (
        start(make_app(), tls=None, client_certificate="none", patience=patience, keep_alive=keep_alive) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection,
    ):
        yield connection


def _answer(connection: socket.socket) -> bytes:
    said = b""
    while not said.endswith(b"}"):
        said += connection.recv(65536)
    return said


@pytest.mark.parametrize(
    ("request_", "dribble"),
    [
        (b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"),
        (b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", b"x"),
    ],
    ids=["empty lines", "a body that was refused"],
)
def test_an_idle_connection_is_not_kept_by_what_is_no_request(request_: bytes, dribble: bytes) -> None:
    with _plain_connection(patience=60.0, keep_alive=1.0) as connection:
        connection.sendall(request_)
        assert _answer(connection).startswith(b"HTTP/1.1 ")
        with pytest.raises(OSError):  # a reset or a broken pipe
            for _ in range(600):
                time.sleep(0.05)
                connection.sendall(dribble)


def test_a_connection_serves_request_after_request_within_its_idle_time() -> None:
    with _plain_connection(patience=60.0, keep_alive=4.0) as connection:
        for _ in range(6):
            connection.sendall(b"\r\n")
            time.sleep(0.8)
            connection.sendall(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n")
            assert _answer(connection).startswith(b"HTTP/1.1 200")


def test_a_caller_who_takes_no_answers_is_cut_off() -> None:
    with _plain_connection(patience=0.5) as connection:
        request = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                connection.sendall(request)


def test_a_caller_who_hangs_up_half_way_is_no_fault_of_the_service(capfd: pytest.CaptureFixture[str]) -> None:
    with _plain_connection(patience=60.0) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        time.sleep(0.2)
    assert "unexpected" not in "".join(capfd.readouterr())


LOGGING = """
import logging, sys
from pathlib import Path
from runtime.logging import configure

configure("test", Path(sys.argv[1]))
try:
    raise ValueError("6037701000000007")
except ValueError:
    logging.getLogger("library").exception("failed with 6037701000000007\\nand more")
logging.getLogger("library").info("not of interest")
"""


def test_what_libraries_log_has_the_form_of_all_logs_and_quotes_no_exception(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LOGGING, str(tmp_path)], check=True)
    (line,) = (tmp_path / "test.log").read_text("utf-8").splitlines()
    entry = json.loads(line)
    assert {name: entry[name] for name in ("component", "level", "error")} == {
        "component": "library",
        "level": "error",
        "error": "ValueError",
    }
    assert entry["event"] == "failed with [masked]"


# --- one application beside another -----------------------------------------------------------------------------------


def test_an_application_beside_another_has_its_own_routes_and_ends_with_it() -> None:
    other = FastAPI()
    port = free_port()

    @other.get("/public")
    async def public(request: Request) -> dict[str, str]:
        return {"caller": str(caller_of(request.scope))}

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with beside(other, tls=None, host="127.0.0.1", port=port):
            yield

    app = FastAPI(lifespan=lifespan)
    with start(app, tls=None, client_certificate="none") as url:
        assert httpx.get(f"http://127.0.0.1:{port}/public").json() == {"caller": "anonymous"}
        assert httpx.get(f"{url}/public").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/public")


def test_an_address_that_is_taken_is_an_error_of_whoever_serves_beside() -> None:
    async def serve(port: int) -> None:
        async with beside(FastAPI(), tls=None, host="127.0.0.1", port=port):
            raise AssertionError("the address is somebody else's")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            asyncio.run(serve(taken.getsockname()[1]))
