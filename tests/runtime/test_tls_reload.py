"""Certificates renewed under running servers and clients, shown with real connections."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog.testing
from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.client import TlsFiles, client_context, http_client
from runtime.identity import caller_of
from runtime.keepalive import KeepAliveClient
from runtime.server import start

Issue = Callable[..., TlsFiles]


async def who(request: Request) -> Response:
    return JSONResponse({"caller": str(caller_of(request.scope))})


@pytest.fixture
def own(issue: Issue, tmp_path: Path) -> TlsFiles:
    """Files of the server that a test may change."""
    return copied(issue("first"), tmp_path, "server")


@pytest.fixture
def server(own: TlsFiles) -> Iterator[str]:
    with start(Starlette(routes=[Route("/who", who)]), tls=own) as url:
        yield url


def copied(files: TlsFiles, folder: Path, name: str) -> TlsFiles:
    """The files in another place."""
    mine = TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-root.pem")
    for source, target in zip(
        (files.certificate, files.key, files.ca), (mine.certificate, mine.key, mine.ca), strict=True
    ):
        shutil.copy(source, target)
    return mine


def replace(target: Path, source: Path) -> None:
    """As a renewal does: written beside it, then renamed."""
    shutil.copy(source, target.with_suffix(".new"))
    target.with_suffix(".new").replace(target)


def shown(url: str, client: TlsFiles) -> str:
    """The name in the certificate that the server shows to a new connection."""
    host, port = url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port))) as raw,
        client_context(client).wrap_socket(raw, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def test_new_connections_see_the_new_certificate_and_old_ones_live_on(server: str, own: TlsFiles, issue: Issue) -> None:
    client, renewed = issue("client", uri="urn:kwbp:service:ca"), issue("second")
    with http_client(client, server) as old:
        assert old.get("/who").status_code == 200
        assert shown(server, client) == "CN=first"
        replace(own.key, renewed.key)
        replace(own.certificate, renewed.certificate)
        assert shown(server, client) == "CN=second"
        answer = old.get("/who")
        assert answer.status_code == 200
        stream = answer.extensions["network_stream"].get_extra_info("ssl_object")
        assert stream.getpeercert()["subject"] == ((("commonName", "first"),),)


@pytest.mark.parametrize("half", ["key", "certificate"])
def test_between_the_two_files_of_a_renewal_the_former_pair_serves(
    half: str, server: str, own: TlsFiles, issue: Issue
) -> None:
    client, renewed = issue("client"), issue("second")
    replace(getattr(own, half), getattr(renewed, half))
    assert shown(server, client) == "CN=first"
    other = "key" if half == "certificate" else "certificate"
    replace(getattr(own, other), getattr(renewed, other))
    assert shown(server, client) == "CN=second"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None])
def test_a_file_that_does_not_load_changes_nothing_but_the_log(
    content: bytes | None, server: str, own: TlsFiles, issue: Issue
) -> None:
    client = issue("client")
    if content is None:
        own.certificate.unlink()
    else:
        own.certificate.write_bytes(content)
    with structlog.testing.capture_logs() as logs:
        assert shown(server, client) == shown(server, client) == "CN=first"
    assert [entry["event"] for entry in logs] == ["changed TLS files do not load; the former stay in use"]
    replace(own.certificate, issue("first").certificate)
    replace(own.key, issue("first").key)
    assert shown(server, client) == "CN=first"


def test_clients_are_judged_by_the_trust_anchors_as_they_are_now(server: str, own: TlsFiles, issue: Issue) -> None:
    files = issue("foreign-client", root="foreign")
    foreign = TlsFiles(files.certificate, files.key, issue("client").ca)
    assert answered(server, foreign) == b""
    both = own.ca.with_name("both.pem")
    both.write_bytes(own.ca.read_bytes() + files.ca.with_name("foreign.pem").read_bytes())
    replace(own.ca, both)
    assert answered(server, foreign).startswith(b"HTTP/1.1 200 OK")


def answered(url: str, client: TlsFiles) -> bytes:
    """What /who is answered; nothing if the client is refused, which TLS 1.3 tells it when it reads."""
    host, port = url.removeprefix("https://").split(":")
    try:
        with (
            socket.create_connection((host, int(port))) as raw,
            client_context(client).wrap_socket(raw, server_hostname=host) as connection,
        ):
            connection.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(4096)
    except OSError:  # ssl.SSLError is one
        return b""


def test_a_client_in_a_thread_shows_its_renewed_certificate(server: str, issue: Issue, tmp_path: Path) -> None:
    mine = copied(issue("caller-1", uri="urn:kwbp:service:ra"), tmp_path, "client")
    renewed = issue("caller-2", uri="urn:kwbp:service:ca")
    with http_client(mine, server) as client:
        assert client.get("/who").json() == {"caller": "service:ra"}
        replace(mine.key, renewed.key)
        replace(mine.certificate, renewed.certificate)
        assert client.get("/who", headers={"Connection": "close"}).json() == {"caller": "service:ra"}  # the old one
        assert client.get("/who").json() == {"caller": "service:ca"}


def test_a_client_on_an_event_loop_shows_its_renewed_certificate(server: str, issue: Issue, tmp_path: Path) -> None:
    mine = copied(issue("caller-1", uri="urn:kwbp:service:ra"), tmp_path, "client")
    renewed = issue("caller-2", uri="urn:kwbp:service:ca")

    async def call() -> list[object]:
        client = KeepAliveClient(server, client_context(mine))
        first = json.loads((await client.request("GET", "/who")).content)
        replace(mine.key, renewed.key)
        replace(mine.certificate, renewed.certificate)
        kept = json.loads((await client.request("GET", "/who", headers={"Connection": "close"})).content)
        new = json.loads((await client.request("GET", "/who")).content)
        await client.aclose()
        return [first["caller"], kept["caller"], new["caller"]]

    assert asyncio.run(call()) == ["service:ra", "service:ra", "service:ca"]
