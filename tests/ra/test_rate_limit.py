"""Anonymous callers are counted by address, on every route, whatever headers they send."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from kwbp.codes import ErrorCode
from kwbp.messages import ErrorTBS
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.der import sha256
from pki.oids import CT_ERROR
from ra.rate_limit import AddressLimits, RateLimits, TooManyRequests, rate_limits
from runtime.identity import SCOPE_KEY, Caller
from tests.support.cps_cases import Office
from tests.support.ra_world import as_caller
from tests.support.registration_site import RegistrationSite

NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)
LIMITS = RateLimits.model_validate(
    {
        "addresses": [
            {"prefix": "/v1/registration", "burst": 2, "every": "PT10S"},
            {"prefix": "/v1/", "burst": 3, "every": "PT1S"},
        ],
        "remembered": 3,
        "cards": {"burst": 1, "every": "PT1H"},
        "holders": {"burst": 1, "every": "PT1H"},
    }
)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


class Door:
    """The limits and a clock; `passes` says whether a request gets in."""

    def __init__(self, *, proxies: tuple[str, ...] = (), limits: RateLimits = LIMITS) -> None:
        self.clock = Clock()
        self.limits = AddressLimits(limits, clock=self.clock, proxies=[ip_network(each) for each in proxies])

    def passes(
        self, host: str | None, *, forwarded: str | None = None, path: str = "/v1/registration", caller: Any = None
    ) -> bool:
        headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": headers,
            "client": None if host is None else (host, 4711),
            "server": ("ra", 443),
            "scheme": "https",
        }
        if caller is not None:
            scope[SCOPE_KEY] = caller
        try:
            self.limits.admit(Request(scope))
        except TooManyRequests:
            return False
        return True


@pytest.fixture
def door() -> Door:
    return Door()


def test_the_built_in_table_ends_with_every_path() -> None:
    assert rate_limits().addresses[-1].prefix == "/"


def test_a_burst_and_then_one_after_each_while(door: Door) -> None:
    assert [door.passes("192.0.2.1") for _ in range(3)] == [True, True, False]
    door.clock.now += timedelta(seconds=10)
    assert [door.passes("192.0.2.1") for _ in range(2)] == [True, False]


def test_addresses_and_lines_do_not_share(door: Door) -> None:
    assert [door.passes("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert door.passes("192.0.2.2")
    assert door.passes("192.0.2.1", path="/v1/applications")
    assert all(door.passes("192.0.2.1", path="/health/live") for _ in range(9))


def test_a_network_of_ipv6_is_one_address(door: Door) -> None:
    sent = [door.passes(f"2001:db8::{number}") for number in range(1, 4)]
    assert sent == [True, True, False]
    assert not door.passes("2001:db8::ffff:1%eth0")
    assert door.passes("2001:db8:0:1::1")


def test_an_ipv4_address_in_ipv6_is_the_ipv4_address(door: Door) -> None:
    assert [door.passes(each) for each in ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201")] == [True, True, False]


def test_callers_with_a_certificate_are_not_counted(door: Door) -> None:
    assert all(door.passes("192.0.2.1", caller=Caller("service", "operator")) for _ in range(9))


def test_a_header_is_not_believed_from_anybody(door: Door) -> None:
    assert [door.passes("192.0.2.1", forwarded=f"198.51.100.{number}") for number in range(3)] == [True, True, False]


def test_behind_a_proxy_the_last_address_that_it_did_not_write_counts() -> None:
    door = Door(proxies=("10.0.0.0/8", "fd00::/8"))
    sent = [door.passes("10.0.0.1", forwarded=f"203.0.113.{number}, 198.51.100.7, 10.0.0.2") for number in range(3)]
    assert sent == [True, True, False]
    assert door.passes("10.0.0.1", forwarded="198.51.100.8")
    assert door.passes("fd00::1", forwarded="198.51.100.9")


@pytest.mark.parametrize("forwarded", [None, "unknown", "", "not, an, address"])
def test_a_proxy_that_names_nobody_asks_itself(forwarded: str | None) -> None:
    door = Door(proxies=("10.0.0.0/8",))
    assert [door.passes("10.0.0.1", forwarded=forwarded) for _ in range(3)] == [True, True, False]


def test_what_is_no_address_shares_one(door: Door) -> None:
    assert [door.passes(each) for each in (None, "testclient", "/run/ra.sock")] == [True, True, False]


def test_memory_is_bounded_and_newcomers_share(door: Door) -> None:
    for number in range(3):
        assert door.passes(f"192.0.2.{number}")
    assert [door.passes(f"198.51.100.{number}") for number in range(4)] == [True, True, False, False]
    assert len(door.limits) == 4  # three, and what all others share
    assert [door.passes("192.0.2.0") for _ in range(2)] == [True, False]


WATCHED = RateLimits.model_validate(
    {
        "addresses": [
            {"prefix": "/health", "burst": 3, "every": "PT1S", "shared": False},
            {"prefix": "/", "burst": 2, "every": "PT1S"},
        ],
        "remembered": 3,
        "cards": {"burst": 1, "every": "PT1H"},
        "holders": {"burst": 1, "every": "PT1H"},
    }
)


def test_who_watches_is_counted_by_address_and_refused_for_nobody_else() -> None:
    door = Door(limits=WATCHED)
    assert [door.passes("192.0.2.1", path="/health/ready") for _ in range(4)] == [True, True, True, False]
    assert door.passes("192.0.2.2", path="/health/ready")


def test_a_flood_elsewhere_takes_no_place_from_who_watches() -> None:
    door = Door(limits=WATCHED)
    flood = [door.passes(f"198.51.100.{number}", path="/v1/cps") for number in range(50)]
    assert flood.count(False) > 40
    assert all(door.passes("192.0.2.1", path="/health/ready") for _ in range(3))
    assert not door.passes("192.0.2.1", path="/health/ready")  # is remembered, not let in for want of memory


def test_a_flood_of_health_probes_from_everywhere_refuses_no_other_probe() -> None:
    door = Door(limits=WATCHED)
    assert all(door.passes(f"198.51.100.{number}", path="/health/live") for number in range(50))
    assert all(door.passes("192.0.2.1", path="/health/live") for _ in range(9))
    assert len(door.limits) == WATCHED.remembered
    assert [door.passes("198.51.100.0", path="/health/live") for _ in range(3)] == [True, True, False]


def test_the_built_in_table_shares_neither_health_nor_metrics() -> None:
    lines = {line.prefix: line for line in rate_limits().addresses}
    assert not lines["/health"].shared
    assert not lines["/metrics"].shared
    assert all(line.shared for line in rate_limits().addresses[2:])


def test_full_buckets_are_forgotten(door: Door) -> None:
    for number in range(3):
        door.passes(f"192.0.2.{number}")
    door.clock.now += timedelta(minutes=1)
    assert door.passes("198.51.100.1")
    assert len(door.limits) == 1


@given(st.lists(st.ip_addresses(v=6), min_size=1, max_size=60))
def test_no_crowd_takes_more_memory_than_it_is_given(crowd: list[Any]) -> None:
    door = Door()
    for address in crowd:
        door.passes(str(address))
    assert len(door.limits) <= LIMITS.remembered + 1


class TestOverHttp:
    @pytest.fixture
    def site(self, tmp_path: Path, office: Office) -> Iterator[RegistrationSite]:
        made = RegistrationSite(tmp_path, office, limits=LIMITS)
        yield made
        made.close()

    def test_every_route_is_behind_it(self, site: RegistrationSite) -> None:
        # a client on the loopback
        for path in ("/v1/cps", "/v1/applications"):
            with TestClient(site.app, base_url="http://ra") as client:
                answers = [client.get(path).status_code for _ in range(4)]
            assert answers[-1] == 429
            site.world.clock.forward(timedelta(minutes=1))
        with TestClient(as_caller(site.app, Caller("service", "operator")), base_url="http://ra") as client:
            assert all(client.get("/v1/cps").status_code == 200 for _ in range(9))

    def test_health_and_metrics_are_counted_apart_from_the_routes(self, tmp_path: Path, office: Office) -> None:
        watched = RateLimits.model_validate(
            {
                "addresses": [
                    {"prefix": "/health", "burst": 3, "every": "PT1S", "shared": False},
                    {"prefix": "/metrics", "burst": 2, "every": "PT1S", "shared": False},
                    {"prefix": "/", "burst": 1, "every": "PT1S"},
                ],
                "remembered": 8,
                "cards": {"burst": 1, "every": "PT1H"},
                "holders": {"burst": 1, "every": "PT1H"},
            }
        )
        site = RegistrationSite(tmp_path, office, limits=watched)
        try:
            with TestClient(site.app, base_url="http://ra") as client:
                assert [client.get("/v1/cps").status_code for _ in range(2)] == [200, 429]
                health = ("/health/live", "/health/ready", "/health/ready", "/health/live")
                assert [client.get(path).status_code for path in health] == [200, 200, 200, 429]
                assert [client.get("/metrics").status_code for _ in range(3)] == [200, 200, 429]
                assert client.get("/health/ready").headers["retry-after"] == "1"
            with TestClient(as_caller(site.app, Caller("service", "operator")), base_url="http://ra") as client:
                assert all(client.get(path).status_code == 200 for path in (*health, *health, "/metrics", "/metrics"))
        finally:
            site.close()

    def test_the_problem_says_when(self, site: RegistrationSite) -> None:
        with TestClient(site.app, base_url="http://ra") as client:
            *_, last = [client.get("/v1/cps") for _ in range(4)]
        assert last.headers["retry-after"] == "1"
        assert (last.json()["type"], last.json()["clause"]) == ("urn:kwbp:problem:rate-limited", "KWBP C7")

    def test_the_protocol_says_it_in_its_own_words(self, site: RegistrationSite) -> None:
        with TestClient(site.app, base_url="http://ra") as client:
            for _ in range(3):
                last = client.post("/v1/registration", content=b"junk", headers={"content-type": MEDIA_TYPE})
        assert (last.status_code, last.headers["retry-after"]) == (429, "10")
        told = decode(ErrorTBS, unwrap(last.content, expected=[CT_ERROR]).body)
        assert (told.error_code, told.clause) == (ErrorCode.RATE_LIMITED, "C7")
        assert told.h_message == sha256(b"junk")
