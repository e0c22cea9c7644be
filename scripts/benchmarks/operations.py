"""Which operations a token does for one payment: counted in the HSM service while payments run, not assumed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from hsm_service.client import HsmClient
from hsm_service.service import KeyInfo
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
    by_gateway = sum(info.uses for info in _keys(url, tls) if info.name == _GATEWAY_KEY)
    public = {info.name: info.uses for info in _keys(url, status)}
    if "sign" not in found:
        raise BenchmarkFailed(f"{url}/metrics does not count token operations")
    # The counter knows operations, not keys. What the gateway's key, the time-stamp authority's and the responders' did
    # not sign, the merchant's did. Answers about status are shared by payments, so they are no operation of one.
    by_merchant = found.pop("sign") - by_gateway - sum(public.values())
    signatures = {GATEWAY_SIGNATURE: by_gateway, MERCHANT_SIGNATURE: by_merchant, TIME_STAMP: public[_TSA_KEY]}
    return Operations(Counter(found | signatures))


def _keys(url: str, tls: TlsFiles) -> list[KeyInfo]:
    service = HsmClient.connect(url, tls)
    try:
        return service.list_keys()
    finally:
        service.close()
