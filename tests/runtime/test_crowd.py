"""Connections of a port: so many in all, so many of one address, and nobody else's."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from runtime.client import TlsFiles, http_client
from runtime.crowd import Crowd, share_of_descriptors, whence
from runtime.server import start
from tests.runtime.test_server import make_app
from tests.support.payment_site import wait_for


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_counts_as_its_subscriber(address: str, one: str) -> None:
    assert whence(address) == one


def test_places_are_counted_and_given_back() -> None:
    crowd = Crowd("test", total=3, of_one=2)
    assert [crowd.enter(each) for each in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    crowd.leave("a")
    assert [crowd.enter(each) for each in ("b", "c")] == [True, False]


def test_a_share_of_descriptors_is_of_what_there_is() -> None:
    assert 1 <= share_of_descriptors(0.1) < share_of_descriptors(0.9)


def closed(connection: socket.socket) -> bool:
    connection.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def test_beyond_the_crowd_connections_are_closed_and_those_within_are_served(issue: Callable[..., TlsFiles]) -> None:
    """Nobody has said a word of TLS yet, so it costs nothing but the one accept."""
    tls = issue("ca", uri="urn:kwbp:service:ca")
    with start(make_app(), tls=tls, crowd=Crowd("test", total=10, of_one=3)) as url, http_client(tls, url) as client:
        assert client.get("/who").json() == {"caller": "service:ca"}
        address = (urlsplit(url).hostname, urlsplit(url).port)
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
            assert [closed(each) for each in silent[2:]] == [True] * 3
            assert client.get("/who").status_code == 200
        # What was given back is had again: the two silent ones have hung up, in the middle of TLS.
        wait_for(lambda: _answers(tls, url))


def _answers(tls: TlsFiles, url: str) -> bool:
    with http_client(tls, url) as client, contextlib.suppress(OSError, Exception):
        return client.get("/who").status_code == 200
    return False


def test_tls_that_does_not_come_has_its_time(issue: Callable[..., TlsFiles]) -> None:
    tls = issue("ca", uri="urn:kwbp:service:ca")
    with start(make_app(), tls=tls, crowd=Crowd("test", total=1, of_one=1), patience=0.2) as url:
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as silent:
            assert closed(silent)
        wait_for(lambda: _answers(tls, url))
