"""Which operations a token does for one payment: counted in the HSM service while payments run, not assumed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from hsm_service.client import HsmClient
from runtime.client import TlsFiles, http_client
from scripts.benchmarks.report import BenchmarkFailed

GATEWAY_SIGNATURE: Final = "sign-gateway"
MERCHANT_SIGNATURE: Final = "sign-merchant"
TIME_STAMP: Final = "sign-timestamp"
_GATEWAY_KEY: Final = "gateway-signing"
_TSA_KEY: Final = "tsa"
_METRIC: Final = re.compile(r'^kwbp_token_operations_total\{operation="([a-z-]+)"\} ([0-9.e+]+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Operations:
    """How often each operation was done; signatures by the token that made them."""

    counts: Counter[str]

    def since(self, earlier: Operations) -> Operations:
        """What was done between two looks."""
        return Operations(self.counts - earlier.counts)

    def per_payment(self, payments: int) -> dict[str, float]:
        """Mean number of each operation for a payment, those left out that do not belong to each payment.

        Between payments the gateway's line sends echoes, each with a MAC: hence the mean is not always whole.
        """
        means = {operation: count / payments for operation, count in sorted(self.counts.items())}
        return {operation: mean for operation, mean in means.items() if mean >= 0.5}


def whole(per_payment: dict[str, float]) -> dict[str, int]:
    """The operations that one payment needs."""
    return {operation: round(mean) for operation, mean in per_payment.items()}


def look(url: str, tls: TlsFiles, status: TlsFiles) -> Operations:
    """Read the counters of the HSM service at `url`, as the operator, and as the service that has time stamped.

    Raises BenchmarkFailed if there are none.
    """
    with http_client(tls, url) as client:
        found = {name: int(float(value)) for name, value in _METRIC.findall(client.get("/metrics").text)}
    by_gateway, stamps = _uses(url, tls, _GATEWAY_KEY), _uses(url, status, _TSA_KEY)
    if "sign" not in found:
        raise BenchmarkFailed(f"{url}/metrics does not count token operations")
    # The counter knows operations, not keys. What the gateway's key and the time-stamp authority's did not sign, the
    # merchant's did, but for a few answers about status.
    by_merchant = found.pop("sign") - by_gateway - stamps
    signatures = {GATEWAY_SIGNATURE: by_gateway, MERCHANT_SIGNATURE: by_merchant, TIME_STAMP: stamps}
    return Operations(Counter(found | signatures))


def _uses(url: str, tls: TlsFiles, key: str) -> int:
    service = HsmClient.connect(url, tls)
    try:
        return service.describe_key(key).uses
    finally:
        service.close()
