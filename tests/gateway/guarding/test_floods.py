"""What floods do to a gateway: nothing to its keys, and nothing to other merchants.

Everything is real: the operations are those that the HSM service counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.guarding.believable import is_signed
from kwbp.common import Draft
from kwbp.messages import AuthReqTBS
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, unwrap, wrap
from pki.cms_signed import parse_signed_data
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_INQ_REQ, CT_OTP_REQ, CT_P_CERT_REQ
from runtime.client import client_context, http_client
from runtime.problems import Problem
from runtime.settings import Settings
from tests.support.payment_parties import Buyer, Purchase, Shop, now, signed_by
from tests.support.payment_site import Site, wait_for
from tests.support.pki_factory import PkiFactory

JUNK = 10_000
JUDGED = 300
KEYS = ("gateway-signing", "gateway-encryption")
CONNECTIONS = 4
IN_A_ROW = 20
BUCKET = {"burst": 100, "every": "PT10S"}


def junk_of(purchase: Purchase) -> list[tuple[str, bytes]]:
    """Each kind of junk that anybody with a merchant's TLS certificate can make in any number."""
    body, xid, rrpid = purchase.signed, purchase.xid, purchase.sent.rrpid
    broken = body[:-5] + bytes([body[-5] ^ 1]) + body[-4:]
    foreign = PkiFactory(now=now().replace(microsecond=0)).merchant(purchase.shop.merchant_id, acquirer_bin="603770")
    content = parse_signed_data(body, content_type=CT_AUTH_REQ).content
    draft = Draft.of(CT_AUTH_REQ, decode(AuthReqTBS, content), rrpid=rrpid, xid=xid)
    return [
        ("/v1/auth", os.urandom(1500)),
        ("/v1/auth", wrap(CT_AUTH_REQ, os.urandom(1500), rrpid=rrpid, xid=xid)),
        ("/v1/auth", wrap(CT_AUTH_REQ, broken, rrpid=rrpid, xid=xid)),
        ("/v1/auth", draft.message(signed_by(foreign, draft))),
        ("/v1/ack", wrap(CT_AUTH_ACK, broken, rrpid=rrpid, xid=xid)),
        ("/v1/inquiry", wrap(CT_INQ_REQ, broken, rrpid=rrpid, xid=xid)),
        ("/v1/password", wrap(CT_OTP_REQ, broken, rrpid=rrpid, xid=xid)),
        ("/v1/certificates", wrap(CT_P_CERT_REQ, broken, rrpid=rrpid, xid=xid)),
        ("/v1/settling", wrap(CT_AUTH_REQ, body, rrpid=rrpid, xid=xid)),
    ]


def uses(site: Site) -> int:
    return sum(site.key_uses(name) for name in KEYS)


async def _flood(url: str, shop: Shop, junk: list[tuple[str, bytes]], count: int) -> Counter[int]:
    """Send `count` of these over a few connections, many at once; how often each status was answered.

    Plain HTTP/1.1 with requests in a row: the flood shall cost this test less than it costs the gateway.
    """
    seen: Counter[int] = Counter()
    parts = urlsplit(url)
    requests = [_request(path, body) for path, body in junk]

    async def pour(begin: int) -> None:
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, ssl=client_context(shop.tls), server_hostname=parts.hostname
        )
        numbers = range(begin, count, CONNECTIONS)
        for at in range(0, len(numbers), IN_A_ROW):
            row = numbers[at : at + IN_A_ROW]
            writer.write(b"".join(requests[number % len(requests)] for number in row))
            for _ in row:
                seen[await _status(reader)] += 1
        writer.close()

    await asyncio.gather(*(pour(begin) for begin in range(CONNECTIONS)))
    return seen


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ", 2)[1])


def test_ten_thousand_junk_messages_cause_no_private_key_operation(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    """Threat 40. Dozens of each kind are judged, the others are too many; an honest order after them is collected."""
    shop = site.new_shop()
    rate = {"burst": JUDGED, "every": "PT1S"}
    with site.gateway(site.gateway_home(tmp_path / "home", floods={"merchant": rate, "cold": 1.0})) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer)
        junk = junk_of(purchase)
        before = uses(site)
        seen = asyncio.run(_flood(url, shop, junk, JUNK))
        assert uses(site) == before
        assert seen.total() == JUNK
        assert set(seen) == {200, 429}
        assert seen[200] >= JUDGED
        wait_for(lambda: shop.post(url, "/v1/ack", b"").status_code != 429, every=1.1)
        wait_for(lambda: shop.post(url, "/v1/auth", purchase.message).status_code == 200, every=1.1)

        def is_collected() -> bool:
            with contextlib.suppress(Problem):  # this is counted too
                return shop.order(url, purchase.xid)["state"] in ("APPROVED", "ACKED")
            return False

        wait_for(is_collected, every=1.1)
        assert uses(site) > before, "keys are counted"


def test_who_signed_is_told_apart_from_who_did_not(site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase, trust = site.purchase(shop, buyer), site.pki.trust(now())
    assert is_signed(unwrap(purchase.message, expected=(CT_AUTH_REQ,)), trust=trust, now=now())
    for _, message in junk_of(purchase)[1:4]:
        assert not is_signed(unwrap(message, expected=(CT_AUTH_REQ,)), trust=trust, now=now())


def test_a_flood_of_one_merchant_leaves_the_others_served(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home = site.gateway_home(tmp_path / "home", floods={"merchant": BUCKET, "cold": 1.0})
    flooder, honest = site.new_shop(), site.new_shop()
    with site.gateway(home) as url:
        for each in (flooder, honest):
            site.register(url, each)
        seen = asyncio.run(_flood(url, flooder, [("/v1/auth", b"junk")], 300))
        assert seen[429] >= 150
        refused = flooder.post(url, "/v1/auth", b"junk")
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:kwbp:problem:too-many-requests")
        assert int(refused.headers["retry-after"]) >= 1
        purchase = site.purchase(honest, buyer)
        assert purchase.checked_answer(honest.collect(url, purchase)).approved
        with http_client(honest.tls, url) as client:
            assert 'kwbp_gateway_shed_total{reason="rate"}' in client.get("/metrics").text


# --- connections ------------------------------------------------------------------------------------------------------


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def test_a_flood_at_the_public_port_leaves_merchants_served(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    """Connections that say nothing, as many as come: each beyond its place is closed, and costs no descriptor."""
    home = site.gateway_home(tmp_path / "home", floods={"public_connections": 20, "public_connections_of_one": 8})
    shop, public = site.new_shop(), Settings.load(home).gateway.public_url
    assert public is not None
    with site.gateway(home) as url, contextlib.ExitStack() as stack:
        site.register(url, shop)
        silent = [stack.enter_context(contextlib.closing(_connected(public))) for _ in range(60)]
        wait_for(lambda: sum(_is_closed(each) for each in silent) >= 52)
        assert _open_connections(url, shop) == 8
        purchase = site.purchase(shop, buyer)
        assert purchase.checked_answer(shop.collect(url, purchase)).approved


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _open_connections(url: str, shop: Shop) -> float:
    with http_client(shop.tls, url) as client:
        line = next(
            each
            for each in client.get("/metrics").text.splitlines()
            if each.startswith('kwbp_server_connections{port="cards"}')
        )
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    "dribble",
    [b"POST /v1/auth HTTP/1.1\r\nhost: x\r\n", b"POST /v1/auth HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"],
    ids=["no end of the head", "a length, and no end"],
)
def test_a_slow_client_holds_no_place_of_a_merchant(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, dribble: bytes
) -> None:
    """Who has not sent its message whole is not worked on; the server's patience ends it (`runtime.server`)."""
    context = client_context(shop.tls)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            plain = stack.enter_context(contextlib.closing(_connected(gateway)))
            slow = stack.enter_context(contextlib.closing(context.wrap_socket(plain, server_hostname="127.0.0.1")))
            slow.sendall(dribble)
        assert isinstance(context, ssl.SSLContext)
        purchase = site.purchase(shop, buyer)
        assert purchase.checked_answer(shop.collect(gateway, purchase)).approved


def test_bodies_that_do_not_come_are_bounded_for_each_merchant(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home = site.gateway_home(tmp_path / "home", floods={"reading_of_one": 3})
    slowpoke, honest = site.new_shop(), site.new_shop()
    head = f"POST /v1/auth HTTP/1.1\r\nhost: x\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: 9\r\n\r\n".encode()
    with site.gateway(home) as url, contextlib.ExitStack() as stack:
        for each in (slowpoke, honest):
            site.register(url, each)
        context = client_context(slowpoke.tls)
        for _ in range(3):
            plain = stack.enter_context(contextlib.closing(_connected(url)))
            slow = stack.enter_context(contextlib.closing(context.wrap_socket(plain, server_hostname="127.0.0.1")))
            slow.sendall(head)
        wait_for(lambda: slowpoke.post(url, "/v1/auth", b"x").status_code == 503)
        refused = slowpoke.post(url, "/v1/auth", b"x")
        assert (refused.json()["type"], refused.headers["retry-after"]) == ("urn:kwbp:problem:overloaded", "1")
        purchase = site.purchase(honest, buyer)
        assert purchase.checked_answer(honest.collect(url, purchase)).approved


@pytest.mark.parametrize("path", ["/v1/auth", "/v1/merchants"])
def test_a_huge_body_is_refused_before_it_is_read(gateway: str, shop: Shop, path: str) -> None:
    """By its declared length: not a byte of it is sent here."""
    context = client_context(shop.tls)
    with context.wrap_socket(_connected(gateway), server_hostname="127.0.0.1") as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
