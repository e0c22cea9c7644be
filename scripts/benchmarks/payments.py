"""Payments per second through a running installation, the bound that its tokens set, and the ratio of the two.

    python -m scripts.benchmarks.payments --shop NAME --cards LABEL … …      card data as a JSON array on standard input

The order of a run, so that a machine that slows down or speeds up meanwhile does so for both: warm-up, tokens,
payments, tokens, payments, tokens. A payment that does not end PAID with a receipt that passes every check ends the
benchmark, and at the end the acquirer must owe the merchant exactly what the buyers paid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.status_client import AsyncStatusCache
from cli.bank import counter
from cli.keyfiles import passphrase_from
from cli.state import Installation
from kwbp.errors import ProtocolError
from runtime.client import async_http_client
from runtime.problems import Problem
from runtime.settings import Home
from scripts.benchmarks import operations
from scripts.benchmarks.buyers import Buyer, Market, Payment
from scripts.benchmarks.operations import Operations
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit
from scripts.benchmarks.token_bound import TokenBound
from shetab.types import Cvv2, Pin
from storefront.merchant.files import tls_name
from storefront.wallet.wallet import Wallet

_WINDOWS: Final = 2
_WARM_UP: Final = 3.0  # seconds: connections, caches and handles are there afterwards
_PAUSE: Final = 1.0  # seconds without a time-stamp: none is asked for any more
_LEAD: Final = 0.5  # seconds of a window before it counts: the first payments start all at once
_TOKEN_SHARE: Final = 0.08  # of the time for payments, each way to ask the token, each time


def main() -> None:
    options = _options()
    found = Installation(Home.find())
    try:
        with TokenBound(options.token_home) as bound:
            metrics = asyncio.run(_run(found, options, bound))
    except (BenchmarkFailed, ProtocolError, StatusError, Problem, httpx.HTTPError) as failure:
        sys.exit(f"no result: {type(failure).__name__}: {failure}")
    emit("payments", options.load, metrics, as_json=options.output == "json")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Used by scripts/bench.")
    parser.add_argument("--shop", required=True, help="name of a shop of the installation")
    parser.add_argument("--wallet", type=Path, required=True, help="folder of the wallet")
    parser.add_argument("--cards", nargs="+", required=True, help="labels of cards in it, in standard input's order")
    parser.add_argument("--passphrase-file", type=Path, required=True)
    parser.add_argument("--token-home", type=Path, required=True, help="where the tokens for the bound are made")
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--output", choices=("table", "json"), required=True)
    return parser.parse_args()


async def _run(found: Installation, options: argparse.Namespace, bound: TokenBound) -> list[Metric]:
    settings = found.settings
    origin = settings.merchants[options.shop].url
    wallet = Wallet.open(options.wallet, passphrase_from(options.passphrase_file, "Passphrase of the wallet"))
    hierarchy = load_hierarchy(found.home.pki)
    status = AsyncStatusCache(settings.repository.url, (wallet.root,), hierarchy.intermediates)
    shop = async_http_client(None, origin, ca=found.home.trust_anchors, timeout=90, connections=options.concurrency)
    market = Market(_buyers(wallet, options.cards), shop, origin=origin, status=status)

    callers = [found.tls(name) for name in ("operator", tls_name(options.shop), "repository")]

    async def look() -> Operations:
        """What was done up to now, once the merchant has the time-stamps that it asks for after each payment."""
        while True:
            seen = operations.look(settings.hsm.url, *callers)
            await asyncio.sleep(_PAUSE)
            if operations.look(settings.hsm.url, *callers).stamped == seen.stamped:
                return seen

    run, owed = _Run(), _owed(found, options.shop)
    try:
        before = await look()
        run.note(await market.trade(_WARM_UP, options.concurrency))
        needed = operations.whole((await look()).since(before).per_payment(run.all_payments))
        for _ in range(_WINDOWS):
            bound.measure(needed, options.seconds * _TOKEN_SHARE)
            await run.window(market, options.seconds / _WINDOWS, options.concurrency)
        bound.measure(needed, options.seconds * _TOKEN_SHARE)
        per_payment = (await look()).since(before).per_payment(run.all_payments)
    finally:
        await shop.aclose()
        await status.aclose()
    if operations.whole(per_payment) != needed:
        raise BenchmarkFailed(f"a payment needed {needed} at first, {per_payment} in the end")
    owed = [after - earlier for after, earlier in zip(_owed(found, options.shop), owed, strict=True)]
    if owed != [run.all_payments, 0, run.all_rial]:
        raise BenchmarkFailed(
            f"{run.all_payments} payments of {run.all_rial} rial were made, but {owed} is to be settled"
        )
    return _metrics(run, per_payment, bound.rates(), options.concurrency)


@dataclass
class _Run:
    """The payments made so far, and those that ended inside a window."""

    counted: list[Payment] = field(default_factory=list)
    seconds: float = 0.0
    """Length of the windows together."""
    all_payments: int = 0
    all_rial: int = 0

    async def window(self, market: Market, seconds: float, concurrency: int) -> None:
        """Trade for `seconds` and count what ends in that time, after a lead that starts the buyers."""
        begun = time.perf_counter() + _LEAD
        made = self.note(await market.trade(_LEAD + seconds, concurrency))
        self.counted += [payment for payment in made if begun <= payment.ended <= begun + seconds]
        self.seconds += seconds

    def note(self, made: list[Payment]) -> list[Payment]:
        """Add to what the buyers paid in all."""
        self.all_payments += len(made)
        self.all_rial += sum(payment.amount for payment in made)
        return made


def _buyers(wallet: Wallet, cards: list[str]) -> list[Buyer]:
    """The cards of the wallet, and what is typed for them, in the order in which standard input gives it."""
    return [
        Buyer(wallet.card(label), Pin.parse(entry["pin2"]), Cvv2.parse(entry["cvv2"]))
        for label, entry in zip(cards, json.load(sys.stdin), strict=True)
    ]


def _owed(found: Installation, shop: str) -> list[int]:
    """What the switch debited for the shop up to now: sales, of them reversed, rial. Each payment once, no more."""
    merchant = found.settings.merchants[shop].merchant_id
    with counter(found) as bank:
        totals = bank.merchant_totals(found.settings.gateway.acquirer_bin)
    mine = [each for each in totals if each.merchant.strip() == merchant]
    return [sum(each.sales for each in mine), sum(each.reversed for each in mine), sum(each.amount for each in mine)]


def _metrics(run: _Run, per_payment: dict[str, float], rates: dict[str, float], concurrency: int) -> list[Metric]:
    if len(run.counted) < 2:
        raise BenchmarkFailed("fewer than two payments ended in the time given; ask for more --seconds")
    rate, best = len(run.counted) / run.seconds, max(rates.values())
    milliseconds = [payment.seconds * 1000 for payment in run.counted]
    percentiles = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return [
        Metric("purchases_per_s", rate, "payments per second, the whole system"),
        Metric("token_bound_per_s", best, "payments per second that the bare tokens could do"),
        Metric("ratio", rate / best, "ratio", ".3f"),
        Metric("latency_p50_ms", percentiles[49], "a payment takes, median (ms)"),
        Metric("latency_p99_ms", percentiles[98], "a payment takes, 99th percentile (ms)"),
        Metric("concurrency", concurrency, "payments under way at a time", ".0f"),
        Metric("purchases", len(run.counted), "payments measured", ",.0f"),
        *(
            Metric(f"token_bound_{way}_per_s", value, f"  bare tokens, {way.replace('_', ' ')}: payments per second")
            for way, value in rates.items()
        ),
        *(
            Metric(f"operations_{name.replace('-', '_')}", value, f"  token operations in a payment: {name}", ".2f")
            for name, value in per_payment.items()
        ),
    ]


if __name__ == "__main__":
    main()
