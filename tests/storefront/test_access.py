"""Who may ask the merchant server what: generated from the application's own routes, so that no route is forgotten."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.routing import Route

from kwbp.wrapper import MEDIA_TYPE
from pki.names import identity_uri
from runtime.client import TlsFiles
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import from_merchant, from_wallet
from storefront.merchant.app import create_app
from storefront.merchant.documents import Document
from tests.support.judges import run
from tests.support.payment_site import Site
from tests.support.shop_front import BASKET, Customer, Front

ANYONE: Final = {
    ("POST", "/kwbp/invoice-request"),
    ("POST", "/kwbp/purchase"),
    ("POST", "/kwbp/inquiry"),
    ("POST", "/kwbp/password"),
    ("POST", "/kwbp/receipt-ack"),
    ("POST", "/kwbp/contract"),
    ("GET", "/catalogue"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/oauth2-redirect"),
    ("GET", "/redoc"),
}
WITH_CONTENT: Final = {
    ("POST", "/orders/{xid}/money"),
    ("POST", "/batches"),
    ("GET", "/settlement-advices/{day}"),
}
"""Whoever may ask here has to say what: asked without that, they are told so."""
CALLERS: Final = ("anonymous", "operator", "the merchant", "another merchant", "another service", "officer", "gateway")


def routes() -> list[tuple[str, str]]:
    app = create_app(lambda: None, "M-1")  # type: ignore[arg-type, return-value]  # never started
    found = []
    for route in app.routes:
        assert isinstance(route, Route), route  # nothing is mounted that this list would not show
        found += [(method, route.path) for method in sorted((route.methods or set()) - {"HEAD"})]
    return found


@pytest.fixture(scope="module")
def front(site: Site, gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front.of(site, gateway, tmp_path_factory.mktemp("merchant"))
    with front.serving():
        yield front


@pytest.fixture(scope="module")
def bought(front: Front, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wallet's folder of a purchase."""
    purchases, customer = tmp_path_factory.mktemp("purchases"), Customer.of(site)
    with customer.shopping(front, purchases) as buyer:
        return purchases / buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid.hex()


def tls_of(caller: str, front: Front) -> TlsFiles | None:
    site = front.site
    return {
        "anonymous": lambda: None,
        "operator": lambda: site.tls("operator"),
        "the merchant": lambda: front.tls,
        "another merchant": lambda: site.tls("merchant-caller", identity_uri("merchant", "CALLER")),
        "another service": lambda: site.tls("ra"),
        "officer": lambda: site.tls("officer-1", identity_uri("officer", "officer-1")),
        "gateway": lambda: site.tls("gateway-2", identity_uri("gateway", "GW-2")),
    }[caller]()


def ask(front: Front, caller: str, method: str, path: str, **arguments: Any) -> Any:
    with front.http(tls_of(caller, front)) as client:
        return client.request(method, path, **arguments)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "path"), routes(), ids=lambda value: value)
def test_each_route_is_for_these_callers(front: Front, bought: Path, method: str, path: str, caller: str) -> None:
    answer = ask(front, caller, method, path.replace("{xid}", bought.name), headers={"content-type": MEDIA_TYPE})
    if caller == "operator" and (method, path) in WITH_CONTENT:
        assert answer.status_code == 422
    elif caller == "operator" or (method, path) in ANYONE:
        assert answer.status_code == 200
    else:
        assert answer.status_code == (401 if caller == "anonymous" else 403)
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_operator_sees_orders(front: Front, bought: Path) -> None:
    (order,) = ask(front, "operator", "GET", "/orders").json()
    assert ask(front, "operator", "GET", f"/orders/{bought.name}").json() == order
    assert (order["xid"], order["state"], order["paid"]) == (bought.name, "RECEIPTED", True)
    assert ask(front, "operator", "GET", "/orders?limit=0").json() == [order]


@pytest.mark.parametrize("xid", ["0" * 40, "00", "x", "A" * 40, "00%20" * 20, "0" * 80])
def test_what_is_no_order_is_not_found(front: Front, xid: str) -> None:
    for path in (f"/orders/{xid}", f"/orders/{xid}/evidence"):
        answer = ask(front, "operator", "GET", path)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:kwbp:problem:unknown-xid")


def test_a_limit_that_is_no_number_is_refused_without_being_quoted(front: Front) -> None:
    answer = ask(front, "operator", "GET", "/orders?limit=secret")
    assert answer.status_code == 422
    assert "secret" not in answer.text


def test_the_catalogue_is_for_everybody(front: Front) -> None:
    document = ask(front, "anonymous", "GET", "/catalogue").json()
    assert [article["sku"] for article in document["articles"]] == ["divan-hafez", "shahnameh", "golestan"]
    assert document["articles"][0]["price"] == 1_850_000


@pytest.mark.parametrize("whose", ["merchant", "wallet"])
def test_evidence_of_either_side_is_judged_by_openssl_alone(
    front: Front, bought: Path, tmp_path: Path, whose: str
) -> None:
    evidence = ask(front, "operator", "GET", f"/orders/{bought.name}/evidence").json()
    assert base64.b64decode(evidence["documents"][Document.RECEIPT]) == (bought / "receipt.p7s").read_bytes()
    records = from_merchant(evidence) if whose == "merchant" else from_wallet(bought)
    verdict = write_bundle(records, front.site.pki.root.certificate, tmp_path / "bundle")
    assert verdict["outcome"] == "approved"
    judged = run("sh", tmp_path / "bundle" / "verify.sh")
    assert judged.returncode == 0, judged.stdout.decode()
