"""Which connector an order goes to, and that it stays there."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.connectors.building import hosts, switch_link, table
from gateway.errors import LinkDownError, RoutingError
from gateway.links.settings import Address
from gateway.routing import MissingConnector, Routes, RouteTable
from pki.names import identity_uri
from runtime.settings import Home, Settings
from shetab.message import Message
from shetab.types import Pan
from tests.gateway.conftest import run
from tests.support.payment_site import tls_files
from tests.support.pki_factory import PkiFactory


class Named:
    """As much of a connector as the choice needs."""

    def __init__(self, name: str, *, signed_on: bool = True) -> None:
        self.name, self.signed_on = name, signed_on


def routes(prefixes: dict[str, str], default: str | None = "switch", *, down: tuple[str, ...] = ()) -> Routes:
    found: dict[str, Any] = {name: Named(name, signed_on=name not in down) for name in ("switch", "bank", "wallet")}
    return Routes(found, RouteTable(prefixes, default))


@pytest.mark.parametrize(
    ("pan", "connector"),
    [
        ("6037991234567893", "bank"),
        ("6037701000000007", "wallet"),
        ("6219861000000009", "switch"),
    ],
)
def test_the_longest_prefix_wins_and_the_rest_is_the_defaults(pan: str, connector: str) -> None:
    assert routes({"6037": "wallet", "603799": "bank"}).choose(Pan(pan)) == connector


def test_without_a_default_a_card_may_have_no_route() -> None:
    assert routes({"603799": "bank"}, None).choose(Pan("6219861000000009")) is None


def test_an_order_stays_with_its_connector_also_when_the_table_says_otherwise() -> None:
    assert routes({"603799": "bank"}).of("wallet").name == "wallet"
    assert routes({}).of(None).name == "switch"


def test_a_connector_that_is_gone_is_down_and_nothing_leaves() -> None:
    gone = routes({}).of("sold")
    assert isinstance(gone, MissingConnector)
    assert not gone.signed_on

    async def ask() -> None:
        message = Message("0800", {})
        for attempt in (gone.authenticate(message), gone.exchange(message, b"", 1.0), gone.manage("301", {})):
            with pytest.raises(LinkDownError):
                await attempt
        await gone.run()

    run(ask())


def test_who_can_be_asked_is_who_is_up() -> None:
    found = routes({}, down=("bank",))
    assert found.up() == {"switch", "wallet", None}
    assert found.signed_on
    assert routes({}, down=("switch",)).up() == {"bank", "wallet"}


@pytest.mark.parametrize("prefix", ["", "60379x", "123456789012", "۶۰۳۷"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(RoutingError):
        RouteTable({prefix: "bank"})


def test_a_route_to_nowhere_is_refused_at_the_start() -> None:
    with pytest.raises(RoutingError, match="sold"):
        routes({"603799": "sold"})
    settings = Settings.model_validate({"gateway": {"routes": {"prefixes": {"603799": "sold"}}}})
    with pytest.raises(RoutingError, match="sold"):
        table(settings)


def test_none_is_no_default() -> None:
    settings = Settings.model_validate({"gateway": {"routes": {"default": "none"}}})
    assert table(settings).find("603799123456") is None


CONNECTORS = {
    "bank": {"kind": "iso8583", "addresses": ["10.0.0.5:9000", "[::1]:9001"], "connections": 2},
    "wallet": {"kind": "http", "url": "https://authoriser.example:8443"},
}


def test_a_host_and_a_prefix_are_data(tmp_path: Any) -> None:
    routed = {"prefixes": {"603799": "bank", "99": "wallet"}, "default": "switch"}
    settings = Settings.model_validate({"gateway": {"connectors": CONNECTORS, "routes": routed}})
    home, pki = Home(tmp_path), PkiFactory()
    home.create()
    pki.write(home.pki)
    tls_files(home, pki, "gateway", identity_uri("service", "gateway"))
    found = hosts(home, settings)
    assert set(found) == {"bank", "wallet"}
    assert found["bank"].link.addresses == (Address("10.0.0.5", 9000), Address("::1", 9001))  # type: ignore[union-attr]
    assert table(settings).find("603799123456") == "bank"


def test_the_switch_is_one_line_unless_more_are_asked_for() -> None:
    one = switch_link(None, Settings())
    assert (len(one.addresses), one.connections, one.tls) == (1, 1, None)
    more = switch_link(None, Settings.model_validate({"switch": {"also": ["10.0.0.8:7150"], "connections": 3}}))
    assert (len(more.addresses), more.connections) == (2, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"switch": {"kind": "http", "url": "https://x"}},
        {"Bank": {"kind": "http", "url": "https://x"}},
        {"bank": {"kind": "http", "url": "http://x"}},
        {"bank": {"kind": "smtp"}},
        {"bank": {"kind": "iso8583", "addresses": []}},
        {"bank": {"kind": "iso8583", "addresses": ["10.0.0.5"]}},
        {"bank": {"kind": "iso8583", "addresses": ["10.0.0.5:70000"]}},
        {"bank": {"kind": "iso8583", "addresses": ["10.0.0.5:1"], "length_prefix": 3}},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="connectors"):
        Settings.model_validate({"gateway": {"connectors": wrong}})
