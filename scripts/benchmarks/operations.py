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

    @property
    def stamped(self) -> int:
        """How many time-stamps there were."""
        return self.counts[TIME_STAMP]

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


def look(url: str, operator: TlsFiles, merchant: TlsFiles, repository: TlsFiles) -> Operations:
    """Read the counters of the HSM service at `url`: the operator's, and how often the parties' own keys have signed.

    Signatures that belong to no payment, of lists and of answers about status, are left out. Raises BenchmarkFailed if
    there are no counters.
    """
    with http_client(operator, url) as client:
        found = {name: int(float(value)) for name, value in _METRIC.findall(client.get("/metrics").text)}
    if found.pop("sign", None) is None:
        raise BenchmarkFailed(f"{url}/metrics does not count token operations")
    signatures = {
        GATEWAY_SIGNATURE: _uses(url, operator, _GATEWAY_KEY),
        MERCHANT_SIGNATURE: _uses(url, merchant),
        TIME_STAMP: _uses(url, repository, _TSA_KEY),
    }
    return Operations(Counter(found | signatures))


def _uses(url: str, caller: TlsFiles, name: str | None = None) -> int:
    """How often the keys that `caller` sees have been used, or the one called `name`."""
    service = HsmClient.connect(url, caller)
    try:
        return sum(info.uses for info in service.list_keys() if name in (None, info.name))
    finally:
        service.close()
