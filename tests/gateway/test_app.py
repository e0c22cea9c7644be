"""The HTTP surface: who may ask what, and what is told."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.names import identity_uri
from pki.oids import CT_AUTH_RES
from runtime.client import TlsFiles, http_client
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import Site
from tests.support.pki_factory import IBAN
from tests.support.ports import free_port

MERCHANT = {"merchant_id": "SHOP-X", "terminal_id": "TX", "name": "Shop", "mcc": "5942"}


def _ask(url: str, tls: TlsFiles, method: str, path: str, **arguments: Any) -> httpx.Response:
    with http_client(tls, url) as client:
        return client.request(method, path, **arguments)


def _callers(site: Site) -> dict[str, TlsFiles]:
    return {
        "merchant": site.tls("merchant-caller", identity_uri("merchant", "CALLER")),
        "operator": site.tls("operator"),
        "service": site.tls("ra"),
        "officer": site.tls("officer-1", identity_uri("officer", "officer-1")),
        "gateway": site.tls("gateway-2", identity_uri("gateway", "GW-2")),
    }


ROUTES = [
    ("POST", "/v1/auth", {"merchant"}),
    ("POST", "/v1/ack", {"merchant"}),
    ("POST", "/v1/settling", {"merchant"}),
    ("GET", "/v1/settlement-advices/2026-03-21", {"merchant"}),
    ("GET", "/v1/business-days", {"merchant", "operator"}),
    ("GET", f"/v1/orders/{'0' * 40}/settlings", {"merchant", "operator"}),
    ("GET", f"/v1/orders/{'0' * 40}", {"merchant", "operator"}),
    ("GET", "/v1/orders?limit=0", {"operator", "officer"}),
    ("GET", f"/v1/orders/{'0' * 40}/life", {"operator", "officer"}),
    ("POST", f"/v1/orders/{'0' * 40}/reversal", {"operator", "officer"}),
    ("POST", f"/v1/orders/{'0' * 40}/resolution", {"operator", "officer"}),
    ("DELETE", f"/v1/orders/{'0' * 40}/resolution", {"operator", "officer"}),
    ("POST", f"/v1/orders/{'0' * 40}/confirmation", {"officer"}),
    ("GET", "/v1/limits", {"operator", "officer"}),
    ("POST", "/v1/certificates", {"merchant"}),
    ("GET", "/v1/reports/2026-03-21", {"merchant", "operator", "officer"}),
    *(
        (method, path, {"operator", "officer"})
        for method, path in (
            ("GET", "/v1/reconciliations"),
            ("POST", "/v1/reconciliations:compare"),
            ("POST", "/v1/settlement-lists"),
            ("GET", "/v1/differences"),
            ("POST", "/v1/differences/1:decide"),
            ("GET", "/v1/payouts"),
            ("POST", "/v1/payouts"),
            ("POST", "/v1/payouts/KWBP-1:again"),
            ("POST", "/v1/bank-answers"),
            ("GET", "/v1/payment-files"),
            ("POST", "/v1/payment-files"),
            ("GET", "/v1/payment-files/1"),
            ("POST", "/v1/payment-files/1:send"),
            ("POST", "/v1/payment-files/1:withdraw"),
            ("GET", "/v1/ledger"),
            ("GET", "/v1/ledger/fees"),
            ("GET", "/v1/ledger-verification"),
        )
    ),
    ("GET", "/v1/merchants", {"operator"}),
    ("POST", "/v1/merchants", {"operator"}),
]


@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES, ids=[f"{m} {p[:40]}" for m, p, _ in ROUTES])
def test_each_route_is_for_these_callers_and_no_others(
    site: Site, gateway: str, method: str, path: str, allowed: set[str]
) -> None:
    for caller, tls in _callers(site).items():
        status = _ask(gateway, tls, method, path).status_code
        assert (status != 403) == (caller in allowed), (caller, status)


def test_without_a_client_certificate_there_is_no_connection(site: Site, gateway: str) -> None:
    with http_client(None, gateway, ca=site.home.trust_anchors) as client, pytest.raises(httpx.TransportError):
        client.get("/v1/merchants")


def test_a_signing_certificate_is_no_login(site: Site, gateway: str, shop: Shop) -> None:
    """It chains to the same root, but has no clientAuth: whoever steals a signature key cannot call with it."""
    shop.credential.write(site.home.tls, "stolen")
    stolen = site.home.tls_files("stolen")
    try:
        response = _ask(gateway, stolen, "POST", "/v1/certificates")
    except httpx.TransportError:
        return  # refused in the handshake already
    assert response.status_code in (401, 403)


def test_an_order_is_shown_to_its_merchant_and_the_operator(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    answer = shop.collect(gateway, purchase)
    path = f"/v1/orders/{purchase.xid.hex()}"
    order = _ask(gateway, shop.tls, "GET", path).json()
    assert base64.b64decode(order["answer"]) == answer
    assert order["auth_code"] == "approved"
    assert unwrap(answer, expected=(CT_AUTH_RES,)).xid == purchase.xid
    assert _ask(gateway, site.tls("operator"), "GET", path, params={"merchant_id": shop.merchant_id}).json() == order
    assert _ask(gateway, site.tls("operator"), "GET", path).status_code == 404
    stranger = site.new_shop()
    refused = _ask(gateway, stranger.tls, "GET", path, params={"merchant_id": shop.merchant_id})
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:kwbp:problem:unknown-xid")


@pytest.mark.parametrize("xid", ["00", "0" * 39, "G" * 40, "A" * 40])
def test_an_xid_that_is_none_is_an_invalid_request(gateway: str, shop: Shop, xid: str) -> None:
    assert _ask(gateway, shop.tls, "GET", f"/v1/orders/{xid}").status_code == 422


def test_a_registration_is_made_changed_and_listed(site: Site, gateway: str) -> None:
    operator = site.tls("operator")
    document = {**MERCHANT, "merchant_id": "SHOP-R", "terminal_id": "TR"}
    assert _ask(gateway, operator, "POST", "/v1/merchants", json=document).status_code == 201
    changed = {**document, "active": False, "order_limit": 5_000_000, "iban": IBAN}
    assert _ask(gateway, operator, "POST", "/v1/merchants", json=changed).status_code == 200
    assert changed in _ask(gateway, operator, "GET", "/v1/merchants").json()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"merchant_id": "S" * 16}, 422),
        ({"merchant_id": "no space"}, 422),
        ({"terminal_id": "123456789"}, 422),
        ({"name": "کتابفروشی"}, 422),
        ({"name": ""}, 422),
        ({"mcc": "59"}, 422),
        ({"order_limit": 0}, 422),
        ({"iban": IBAN[:-1] + "1"}, 422),
        ({"iban": IBAN.lower()}, 422),
        ({"surprise": 1}, 422),
        ({"merchant_id": "SHOP-Z", "terminal_id": "TAKEN"}, 409),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_a_registration_that_messages_cannot_carry_is_refused(
    site: Site, gateway: str, change: dict[str, Any], status: int
) -> None:
    operator = site.tls("operator")
    taken = {**MERCHANT, "merchant_id": "SHOP-T", "terminal_id": "TAKEN"}
    assert _ask(gateway, operator, "POST", "/v1/merchants", json=taken).status_code in (200, 201)
    answer = _ask(gateway, operator, "POST", "/v1/merchants", json={**MERCHANT, **change})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_it_says_how_it_is(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    shop.collect(gateway, site.purchase(shop, buyer))
    assert _ask(gateway, shop.tls, "GET", "/health/live").status_code == 200
    ready = _ask(gateway, shop.tls, "GET", "/health/ready").json()
    assert ready == {"service": "gateway", "status": "ready", "reasons": [], "lines": {"switch": True}}
    metrics = _ask(gateway, shop.tls, "GET", "/metrics").text
    assert 'kwbp_gateway_link_up{connector="switch",line="1"} 1.0' in metrics
    assert 'kwbp_gateway_orders_total{state="APPROVED"}' in metrics
    paths = _ask(gateway, shop.tls, "GET", "/openapi.json").json()["paths"]
    assert {path for _, path, _ in ROUTES if re.fullmatch("/v1/[a-z:-]+", path)} <= paths.keys()
    assert MEDIA_TYPE in str(paths["/v1/auth"])


def test_it_starts_without_its_keys_and_says_so(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    """The key service may come later; until then every order is answered "not now", none is judged."""
    home, shop = site.gateway_home(tmp_path / "home", hsm={"port": free_port()}), site.new_shop()
    with site.gateway(home, ready=False) as url:
        assert (
            {"starting"} <= set(_ask(url, shop.tls, "GET", "/health/ready").json()["reasons"]) <= {"starting", "keys"}
        )
        answer = shop.post(url, "/v1/auth", site.purchase(shop, buyer).message)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:kwbp:problem:starting")
        assert shop.post(url, "/v1/certificates", b"").status_code == 503
        site.register(url, shop)  # the registry needs no key


def test_it_does_not_serve_under_another_gateways_name(site: Site, shop: Shop, tmp_path: Path) -> None:
    home = site.gateway_home(tmp_path / "home", gateway_id="GW-9")
    with site.gateway(home, ready=False) as url:
        assert shop.post(url, "/v1/certificates", b"").status_code == 503
