"""How often anonymous callers may ask the registration authority: one dependency that all its routes share.

An address is an IPv4 address or the /64 network of an IPv6 one, because whoever has one address of such a network has
all of them. It is the other end of the connection; what headers say counts only from proxies that the settings name,
and then the last address that no such proxy wrote. Buckets that are full again are forgotten without loss. When more
addresses are at it at once than are remembered, newcomers share one bucket: memory is bounded, and many addresses buy
no more than one. Health and metrics are for whoever watches, and watching must go on in a flood: their addresses are
remembered apart from the others', and newcomers beyond them are let in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from runtime.identity import caller_of
from runtime.problems import Problem
from runtime.token_bucket import NONE, Rate, take, whole_seconds

Network = IPv4Network | IPv6Network
_SITE: Final = 64  # bits of an IPv6 address that one site has to itself (RFC 6177)
_OTHERS: Final = "others"


class Line(Rate):
    """The rate of the paths that begin with `prefix`; `shared`: by newcomers, when no more addresses are remembered."""

    prefix: str = Field(pattern=r"^/")
    shared: bool = True


class RateLimits(BaseModel):
    """`rate_limits.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    addresses: tuple[Line, ...] = Field(min_length=1)
    remembered: int = Field(ge=1)
    cards: Rate
    holders: Rate


@cache
def rate_limits() -> RateLimits:
    """The limits that this authority ships with."""
    return RateLimits.model_validate(
        yaml.load(files("ra").joinpath("rate_limits.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
    )


class TooManyRequests(Problem):
    """Asked too often from one address, for one card or by one holder; `retry_after` in seconds, `check` of KWBP."""

    def __init__(self, wait: timedelta, check: str = "C7") -> None:
        self.retry_after = whole_seconds(wait)
        self.check = check
        super().__init__(
            429,
            "rate-limited",
            "too many requests: ask again later",
            clause=f"KWBP {check}",
            headers={"Retry-After": str(self.retry_after)},
        )

    @classmethod
    def after(cls, seconds: int) -> TooManyRequests:
        """As another service said it."""
        return cls(timedelta(seconds=seconds))


class AddressLimits:
    """Counts anonymous requests by address. Safe for threads."""

    def __init__(self, limits: RateLimits, *, clock: Callable[[], datetime], proxies: Sequence[Network] = ()) -> None:
        """`proxies` are networks whose X-Forwarded-For is believed."""
        self._limits = limits
        self._clock = clock
        self._proxies = tuple(proxies)
        self._shared: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        self._apart: dict[str, OrderedDict[tuple[str, str], datetime]] = {
            line.prefix: OrderedDict() for line in limits.addresses if not line.shared
        }
        self._lock = threading.Lock()

    def admit(self, request: Request) -> None:
        """Count a request of an anonymous caller; raises TooManyRequests."""
        if caller_of(request.scope).kind != "anonymous":
            return
        line = next((each for each in self._limits.addresses if request.url.path.startswith(each.prefix)), None)
        if line is None:
            return
        wait = self._take(line, self._address(request))
        if wait > NONE:
            raise TooManyRequests(wait)

    def __len__(self) -> int:
        return len(self._shared) + sum(map(len, self._apart.values()))

    def _take(self, line: Line, address: str) -> timedelta:
        with self._lock:
            now, key = self._clock(), (line.prefix, address)
            buckets = self._apart.get(line.prefix, self._shared)
            if key not in buckets:
                _forget(buckets, now)
                if len(buckets) >= self._limits.remembered:
                    if not line.shared:
                        return NONE
                    key = (line.prefix, _OTHERS)
            full_at, wait = take(line, buckets.get(key), now)
            buckets[key] = full_at
            buckets.move_to_end(key)
            return wait

    def _address(self, request: Request) -> str:
        address = _network(request.client.host if request.client else "")
        hops = [hop.strip() for value in request.headers.getlist("x-forwarded-for") for hop in value.split(",")]
        while hops and isinstance(address, Network) and self._is_proxy(address):
            found = _network(hops.pop())
            if not isinstance(found, Network):
                break  # a proxy wrote something that is no address: then it is the proxy who asks
            address = found
        return str(_site(address))

    def _is_proxy(self, address: Network) -> bool:
        return any(
            address.version == proxy.version and address.subnet_of(proxy)  # type: ignore[arg-type]  # same version
            for proxy in self._proxies
        )


def _forget(buckets: OrderedDict[tuple[str, str], datetime], now: datetime) -> None:
    """Drop what is full, beginning with whoever was not seen for the longest time."""
    while buckets and next(iter(buckets.values())) <= now:
        buckets.popitem(last=False)


async def limited(request: Request) -> None:
    """The dependency: every route of the authority has it."""
    limits: AddressLimits = request.app.state.limits
    limits.admit(request)


def _network(host: str) -> Network | str:
    """The address as a network of one; a name where there is none (a Unix socket, a test)."""
    try:
        address: Any = ip_address(host.partition("%")[0])
    except ValueError:
        return "local"
    mapped = getattr(address, "ipv4_mapped", None)
    return ip_network(mapped or address)


def _site(address: Network | str) -> Network | str:
    return address.supernet(new_prefix=_SITE) if isinstance(address, IPv6Network) else address
