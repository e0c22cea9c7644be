"""Where money is authorised, as data: lines, their TLS, further connectors, which cards go where.

[switch]                                # lines to the switch: one, unless more are asked for
connections = 2
also = ["10.1.0.8:7150"]
[switch.tls]
name = "switch.example"

[gateway.connectors.melli]              # a host that speaks ISO 8583, without a key exchange of its own
kind = "iso8583"
addresses = ["10.2.0.5:9000"]
dialect = "shetab93_ascii"
network_management = false

[gateway.connectors.melli.zone]         # with zone keys of its own; without the section: those of the switch
mac_key = "aes-128"

[gateway.connectors.wallet]             # a service that speaks JSON over HTTPS
kind = "http"
url = "https://authoriser.example:8443"

[gateway.routes]
prefixes = {"603799" = "melli", "99" = "wallet"}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from runtime.zone_settings import HostZoneSettings

_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):([0-9]{1,5})")
_HTTPS: Final = re.compile(r"(?P<origin>https://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?)/?")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")


def _is_address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError("an address is host:port, with an IPv6 address in brackets")
    return text


def _is_name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in ("switch", "none"):
        raise ValueError("a connector has a name of small letters, digits and hyphens, and another than switch or none")
    return text


def _is_secure(url: str) -> str:
    """No path, which would not be asked for; no user, who would be shown with the lines."""
    match = _HTTPS.fullmatch(url)
    if match is None or not 1 <= int(match["port"] or 443) <= 65535:
        raise ValueError("card data go over TLS alone: https://host or https://host:port is expected, nothing more")
    return match["origin"]


Address = Annotated[str, AfterValidator(_is_address)]
ConnectorName = Annotated[str, AfterValidator(_is_name)]


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of an `Address`; an IPv6 address without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class MutualTls(_Section):
    """Mutual TLS 1.3. Paths are below the installation; what is not set is the installation's own."""

    trust_anchor: Path | None = Field(default=None, description="PEM: who may have issued the other side's certificate")
    certificate: Path | None = Field(default=None, description="PEM chain, leaf first, that this side shows")
    key: Path | None = Field(default=None, description="PEM key of that certificate")


class LineTls(MutualTls):
    """Of a line, where the other side's certificate may say another name than that of the address."""

    name: str | None = Field(default=None, description="what that certificate says; none: the host of the address")


class LineLimits(_Section):
    """How much may be under way on lines, and how they are kept up; times in seconds."""

    in_flight: int = Field(default=256, ge=1, description="requests waiting for their answer on one line")
    in_flight_total: int = Field(default=1024, ge=1, description="on all lines of a connector; beyond it: not sent")
    kept_for_reversals: int = Field(default=32, ge=0, description="of these, not for new orders")
    echo_interval: float = Field(default=30.0, gt=0)
    connect_timeout: float = Field(default=5.0, gt=0)
    management_timeout: float = Field(default=10.0, gt=0, description="sign-on or echo unanswered: a new connection")
    longest_pause: float = Field(default=10.0, gt=0, description="between two attempts to connect")
    alarm_after: float = Field(default=30.0, gt=0, description="how long half of the lines may be down")
    clock_limit: float = Field(default=10.0, gt=0, description="how far the network's clock may be from ours")


class IsoHostSettings(_Section):
    """A host that speaks ISO 8583 over TCP."""

    kind: Literal["iso8583"]
    addresses: tuple[Address, ...] = Field(min_length=1)
    connections: int = Field(default=1, ge=1, le=32, description="lines to each address")
    length_prefix: Literal[2, 4] = 2
    dialect: str = Field(default="shetab87_ascii", description="the name of one, or its .yaml file")
    network_management: bool = Field(
        default=True, description="whether it is signed on to, sends echoes, and exchanges the keys of its zone"
    )
    zone: HostZoneSettings | None = Field(default=None, description="keys of its own; none: those of the switch")
    limits: LineLimits = LineLimits()
    tls: LineTls | None = None


class HttpHostSettings(_Section):
    """An authoriser that speaks JSON over HTTPS; TLS is mutual always."""

    kind: Literal["http"]
    url: Annotated[str, AfterValidator(_is_secure)]
    connections: int = Field(default=32, ge=1, le=256, description="requests under way at once")
    kept_for_reversals: int = Field(default=8, ge=0, description="of these, not for new orders")
    mac: bool = Field(default=False, description="whether bodies carry a MAC by the zone key")
    zone: HostZoneSettings | None = Field(default=None, description="keys of its own; none: those of the switch")
    look_every: float = Field(default=5.0, gt=0, description="seconds between two looks whether it is there")
    management_timeout: float = Field(default=10.0, gt=0, description="such a look unanswered: it is not there")
    tls: MutualTls = MutualTls()


ConnectorSettings = Annotated[IsoHostSettings | HttpHostSettings, Field(discriminator="kind")]


class RouteSettings(_Section):
    """Which connector serves which cards: the longest prefix of the PAN wins."""

    prefixes: dict[Annotated[str, Field(pattern=r"^[0-9]{1,11}$")], str] = Field(default_factory=dict)
    default: str = Field(default="switch", description='for all other cards; "none": they are declined')
