"""What Prometheus sees of the tokens. Imported by whoever opens tokens for a service; nothing here is on a hot path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from hsm_service.operation_counts import OPERATIONS

BREAKER: Final = Gauge("kwbp_token_breaker", "State of a token: 0 closed, 1 half-open, 2 open", ["token"])
STARTS: Final = Counter("kwbp_token_starts", "Processes started for a token", ["token"])
LOSSES: Final = Counter("kwbp_token_losses", "Times that a token's process ended or was ended", ["token", "why"])
IN_FLIGHT: Final = Gauge("kwbp_token_in_flight", "Calls that a token's process has and has not answered", ["token"])
QUEUED: Final = Gauge("kwbp_token_queued", "Calls that wait for a token's process to take them", ["token"])


class _Operations(Collector):
    """`kwbp_token_operations_total`, read from the counts of this process."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "kwbp_token_operations", "Operations with a private or secret key inside a token", labels=["operation"]
        )
        for operation, count in sorted(OPERATIONS.snapshot().items()):
            family.add_metric([operation], count)
        yield family

    describe = collect


REGISTRY.register(_Operations())


def watch(token: str, in_flight: Callable[[], float], queued: Callable[[], float]) -> None:
    """Have the gauges of `token` ask these functions whenever they are read."""
    IN_FLIGHT.labels(token).set_function(in_flight)
    QUEUED.labels(token).set_function(queued)


def forget(token: str) -> None:
    """Drop the gauges of a token that was closed; its counters stay."""
    for gauge in (IN_FLIGHT, QUEUED, BREAKER):
        gauge.remove(token)
