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
_GATEWAY_KEY: Final = "gateway-signing"
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


def look(url: str, tls: TlsFiles) -> Operations:
    """Read the counters of the HSM service at `url`, as the operator; raises BenchmarkFailed if there are none."""
    with http_client(tls, url) as client:
        found = {name: int(float(value)) for name, value in _METRIC.findall(client.get("/metrics").text)}
    service = HsmClient.connect(url, tls)
    try:
        by_gateway = service.describe_key(_GATEWAY_KEY).uses
    finally:
        service.close()
    if "sign" not in found:
        raise BenchmarkFailed(f"{url}/metrics does not count token operations")
    # The counter knows operations, not tokens. Two tokens sign: what the gateway's key did not, the merchant's did.
    signatures = found.pop("sign")
    return Operations(Counter(found | {GATEWAY_SIGNATURE: by_gateway, MERCHANT_SIGNATURE: signatures - by_gateway}))
