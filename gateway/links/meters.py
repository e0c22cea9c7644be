"""Numbers of one line: Prometheus metrics for machines, a `LineState` for people."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import prometheus_client

_RECENT: Final = 512
"""Round trips that the quantiles shown to people are taken from."""
_LABELS: Final = ("connector", "line")

_up: Final = prometheus_client.Gauge("kwbp_gateway_link_up", "1 while signed on to the switch", _LABELS)
_in_flight: Final = prometheus_client.Gauge("kwbp_gateway_link_in_flight", "Requests waiting for their answer", _LABELS)
_messages: Final = prometheus_client.Counter(
    "kwbp_gateway_link_messages_total", "Messages sent and received", [*_LABELS, "direction"]
)
_refused: Final = prometheus_client.Counter(
    "kwbp_gateway_link_refused_total", "Messages that were not believed", [*_LABELS, "why"]
)
_reconnects: Final = prometheus_client.Counter(
    "kwbp_gateway_link_reconnects_total", "Connections that ended and were made anew", _LABELS
)
_round_trip: Final = prometheus_client.Histogram(
    "kwbp_gateway_link_round_trip_seconds",
    "From the request to its answer",
    _LABELS,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


@dataclass(frozen=True, slots=True)
class LineState:
    """A line as people see it. Times of round trips in milliseconds, None before the first.

    `clock_ahead`: seconds that our clock is ahead of the network's at least, None while it has not said.
    """

    connector: str
    line: int
    address: str
    tls: bool
    state: str
    since: datetime
    in_flight: int
    sent: int
    received: int
    refused: int
    reconnects: int
    p50_ms: float | None
    p99_ms: float | None
    clock_ahead: float | None = None


class Meters:
    """Counts what happens on one line."""

    def __init__(self, connector: str, line: int) -> None:
        labels = (connector, str(line))
        self._labels = labels
        self._up, self._in_flight = _up.labels(*labels), _in_flight.labels(*labels)
        self._sent, self._received = _messages.labels(*labels, "sent"), _messages.labels(*labels, "received")
        self._reconnects, self._round_trip = _reconnects.labels(*labels), _round_trip.labels(*labels)
        self._up.set(0)
        self._in_flight.set(0)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self.in_flight = 0
        self.sent = 0
        self.received = 0
        self.reconnects = 0
        self.refused: Counter[str] = Counter()

    def is_up(self, up: bool) -> None:
        """Signed on, or not any more."""
        self._up.set(up)

    def asked(self) -> float:
        """A request goes out; hand what this returns to `answered`."""
        self.in_flight += 1
        self._in_flight.inc()
        return time.perf_counter()

    def answered(self, began: float, *, in_time: bool) -> None:
        """A request waits no more; `in_time` if that is because its answer came."""
        self.in_flight -= 1
        self._in_flight.dec()
        if in_time:
            took = time.perf_counter() - began
            self._recent.append(took)
            self._round_trip.observe(took)

    def wrote(self) -> None:
        self.sent += 1
        self._sent.inc()

    def came(self) -> None:
        self.received += 1
        self._received.inc()

    def refuse(self, why: str) -> None:
        """A message that is not believed: "framing", "dialect", "mac", "echo", "reflected", "unclaimed", "failed"."""
        self.refused[why] += 1
        _refused.labels(*self._labels, why).inc()

    def came_back(self) -> None:
        self.reconnects += 1
        self._reconnects.inc()

    def quantile_ms(self, share: float) -> float | None:
        """Milliseconds that `share` (0 to 1) of the recent round trips took at most."""
        if not self._recent:
            return None
        ordered = sorted(self._recent)
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
