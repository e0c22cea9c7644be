"""Where lines lead and how they behave. Times in seconds, sizes in bytes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from shetab.framing import Framing


@dataclass(frozen=True, slots=True)
class Address:
    """One place to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The lines to one switch."""

    addresses: tuple[Address, ...]
    institution: str
    """DE 33 of network management messages: who signs on."""
    framing: Framing
    connections: int = 1
    """Lines to each address."""
    network_management: bool = True
    """Whether lines sign on and send echoes. A host without them is taken for ready when it accepts the connection."""
    connect_timeout: float = 5.0
    management_timeout: float = 10.0
    """Sign-on and echo unanswered for this long: the connection is given up."""
    echo_interval: float = 30.0
    first_pause: float = 0.2
    longest_pause: float = 10.0
    in_flight: int = 256
    """Requests that may wait for their answer on one line."""
    in_flight_total: int = 1024
    """On all lines together. What goes beyond either is not sent: it would be answered after its time."""
    kept_for_reversals: int = 32
    """Of what the lines that are up may carry, not to be had by new orders: what gives money back gets through."""
    write_buffer: int = 65_536
    """What a peer that does not read may leave unsent on a line; beyond it nothing more is written there."""
    refused_in_a_row: int = 32
    """So many messages without a single good one: the line is closed."""
    unanswered_in_a_row: int = 8
    """So many deadlines without a word, on a line without echoes: it is closed."""
    handed_over: float = 5.0
    """How long requests of a broken line wait for their answers on the other lines."""
    alarm_after: float = 30.0
    """How long half of the lines may be down."""
    clock_limit: float = 10.0
    """How far the network's clock may be from ours before people are told."""
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """What the certificate at the other end must say, where that is not the host."""
