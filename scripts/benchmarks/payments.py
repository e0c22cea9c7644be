"""Payments per second through a running installation, the bound that its tokens set, and how long a payment takes.

    python -m scripts.benchmarks.payments --shop NAME --cards LABEL … …      card data as a JSON array on standard input

First what it can do: buyers who buy one thing after the other, in turns with loops on the bare tokens, so that a
machine that slows down or speeds up meanwhile does so for both. Then how long a payment takes when buyers come by
themselves, at a quarter, a half, three quarters and nine tenths of that. A payment that does not end PAID with a
receipt that passes every check ends the benchmark, and at the end the acquirer must owe the merchant exactly what the
buyers paid. The figures go to standard output as JSON, a `Metric` each, for `payments_report`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
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
from scripts.benchmarks.processor_time import TOKENS, service_seconds
from scripts.benchmarks.report import BenchmarkFailed, Metric
from scripts.benchmarks.token_bound import TokenBound
from shetab.types import Cvv2, Pin
from storefront.merchant.files import tls_name
from storefront.wallet.wallet import Wallet

_WINDOWS: Final = 2
_WARM_UP: Final = 3.0  # seconds: connections, caches and handles are there afterwards
_PAUSE: Final = 1.0  # seconds without a time-stamp: none is asked for any more
FEWEST: Final = 8
"""Payments that a figure is made of, at least: on a slow machine it takes longer than asked, instead of failing."""
_LEAD: Final = 0.5  # seconds of a window before it counts: the first payments start all at once
_TOKEN_SHARE: Final = 0.08  # of the time for payments, each way to ask the token, each time
_LOADS: Final = (25, 50, 75, 90)  # per cent of what it can do
_LOAD_SHARE: Final = 0.5  # of the time for payments, each load
_MOST_AT_ONCE: Final = 256  # connections, where buyers come by themselves
_BUYERS: Final = "buyers"
_SPENDERS: Final = {
    "gateway": "processor time for a payment: gateway (ms)",
    "shop": "  shop (ms)",
    "hsm": "  HSM service (ms)",
    "tokens": "  its tokens: SoftHSM2 (ms)",
    "switch": "  switch simulator and issuer (ms)",
    "repository": "  status, OCSP, time-stamps (ms)",
    "others": "  services that no payment asks, meanwhile (ms)",
    "buyers": "  load generator: buyers sign, seal and verify in software (ms)",
}
_COMING: Final = 20261123  # seed of when they come: the same in every run


def main() -> None:
    options = _options()
    found = Installation(Home.find())
    try:
        if options.cost:
            metrics = asyncio.run(_cost(found, options))
        else:
            with TokenBound(options.token_home) as bound:
                metrics = asyncio.run(_run(found, options, bound))
    except (BenchmarkFailed, ProtocolError, StatusError, Problem, httpx.HTTPError, ExceptionGroup) as failure:
        first = _first(failure)
        sys.exit(f"no result: {type(first).__name__}: {first}")
    for metric in metrics:
        print(json.dumps(asdict(replace(metric, name=metric.name + options.suffix))))


def _first(failure: Exception) -> Exception:
    """Of buyers who failed together, the first."""
    return _first(failure.exceptions[0]) if isinstance(failure, ExceptionGroup) else failure


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Used by scripts/bench.")
    parser.add_argument("--shop", required=True, help="name of a shop of the installation")
    parser.add_argument("--wallet", type=Path, required=True, help="folder of the wallet")
    parser.add_argument("--cards", nargs="+", required=True, help="labels of cards in it, in standard input's order")
    parser.add_argument("--passphrase-file", type=Path, required=True)
    parser.add_argument("--token-home", type=Path, required=True, help="where the tokens for the bound are made")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--suffix", default="", help="of the names of figures: which database they are of")
    parser.add_argument("--cost", action="store_true", help="only the processor time that a payment costs")
    return parser.parse_args()


@asynccontextmanager
async def _market(found: Installation, options: argparse.Namespace) -> AsyncIterator[Market]:
    settings = found.settings
    origin = settings.merchants[options.shop].url
    wallet = Wallet.open(options.wallet, passphrase_from(options.passphrase_file, "Passphrase of the wallet"))
    hierarchy = load_hierarchy(found.home.pki)
    status = AsyncStatusCache(settings.repository.url, (wallet.root,), hierarchy.intermediates)
    shop = async_http_client(None, origin, ca=found.home.trust_anchors, timeout=90, connections=_MOST_AT_ONCE)
    try:
        yield Market(_buyers(wallet, options.cards), shop, origin=origin, status=status)
    finally:
        await shop.aclose()
        await status.aclose()


class _Books:
    """What the installation counts of payments: operations of its tokens, debits of the bank."""

    def __init__(self, found: Installation, shop: str) -> None:
        self._found = found
        self._shop = shop
        self._owed = self._debits()

    async def look(self) -> Operations:
        """What was done up to now, once the merchant has the time-stamps that it asks for after each payment."""
        callers = [self._found.tls(name) for name in ("operator", tls_name(self._shop), "repository")]
        while True:
            seen = operations.look(self._found.settings.hsm.url, *callers)
            await asyncio.sleep(_PAUSE)
            if operations.look(self._found.settings.hsm.url, *callers).stamped == seen.stamped:
                return seen

    def check(self, payments: int, rial: int) -> None:
        """Raises BenchmarkFailed unless exactly these were debited since this was made."""
        owed = [after - earlier for after, earlier in zip(self._debits(), self._owed, strict=True)]
        if owed != [payments, 0, rial]:
            raise BenchmarkFailed(f"{payments} payments of {rial} rial were made, but {owed} is to be settled")

    def _debits(self) -> list[int]:
        """What the switch debited for the shop up to now: sales, of them reversed, rial."""
        merchant = self._found.settings.merchants[self._shop].merchant_id
        with counter(self._found) as bank:
            totals = bank.merchant_totals(self._found.settings.gateway.acquirer_bin)
        mine = [each for each in totals if each.merchant.strip() == merchant]
        return [
            sum(each.sales for each in mine),
            sum(each.reversed for each in mine),
            sum(each.amount for each in mine),
        ]


async def _run(found: Installation, options: argparse.Namespace, bound: TokenBound) -> list[Metric]:
    async with _market(found, options) as market:
        run, books = _Run(), _Books(found, options.shop)
        before = await books.look()
        run.note(await market.trade(_WARM_UP, options.concurrency))
        needed = operations.whole((await books.look()).since(before).per_payment(run.all_payments))
        for _ in range(_WINDOWS):
            bound.measure(needed, options.seconds * _TOKEN_SHARE)
            await run.window(market, options.seconds / _WINDOWS, options.concurrency)
        await run.enough(market, options.seconds, options.concurrency)
        bound.measure(needed, options.seconds * _TOKEN_SHARE)
        per_payment = (await books.look()).since(before).per_payment(run.all_payments)
        if operations.whole(per_payment) != needed:
            raise BenchmarkFailed(f"a payment needed {needed} at first, {per_payment} in the end")
        metrics = _metrics(run, per_payment, bound.rates(), options.concurrency)
        rng = random.Random(_COMING)  # noqa: S311  # of visits
        for load in _LOADS:
            rate, seconds = metrics[0].value * load / 100, options.seconds * _LOAD_SHARE
            metrics += _latency(run.note(await market.offer(rate, seconds, FEWEST, rng)), load)
        books.check(run.all_payments, run.all_rial)
        return metrics


async def _cost(found: Installation, options: argparse.Namespace) -> list[Metric]:
    """Processor time for a payment, by who spent it; what the shop does after a payment is included."""
    async with _market(found, options) as market:
        run, books = _Run(), _Books(found, options.shop)
        run.note(await market.trade(_WARM_UP, options.concurrency))
        await books.look()
        warm, before, mine = run.all_payments, service_seconds(found.home.path), time.process_time()
        run.note(await market.trade(options.seconds / _WINDOWS, options.concurrency))
        mine = time.process_time() - mine
        await books.look()
        spent = service_seconds(found.home.path)
        books.check(run.all_payments, run.all_rial)
    seconds = {name: spent[name] - before[name] for name in spent.keys() & before.keys()} | {_BUYERS: mine}
    return _costs(seconds, f"merchant-{options.shop}", run.all_payments - warm)


def _costs(seconds: dict[str, float], shop: str, payments: int) -> list[Metric]:
    """By processor seconds of each service: milliseconds for a payment, and of all together."""
    named = {"gateway": "gateway", shop: "shop", "hsm": "hsm", TOKENS: "tokens", "switch": "switch"}
    named |= {"repository": "repository", _BUYERS: "buyers"}
    spent = dict.fromkeys(_SPENDERS, 0.0)
    for name, value in seconds.items():
        spent[named.get(name, "others")] += value * 1000 / payments
    return [
        *(Metric(f"{name}_cpu_ms", spent[name], words, ".2f") for name, words in _SPENDERS.items()),
        Metric("all_cpu_ms", sum(spent.values()), "  all of it together (ms)", ".2f"),
    ]


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

    async def enough(self, market: Market, seconds: float, concurrency: int) -> None:
        """Trade on, each window twice as long as the one before, until `FEWEST` payments ended inside of windows.

        On a machine so slow that a payment takes longer than a window, no number of short ones would hold one.
        """
        while len(self.counted) < FEWEST:
            await self.window(market, seconds, concurrency)
            seconds *= 2

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


def _metrics(run: _Run, per_payment: dict[str, float], rates: dict[str, float], concurrency: int) -> list[Metric]:
    rate, best = len(run.counted) / run.seconds, max(rates.values())
    p50, p99 = _percentiles(run.counted)
    return [
        Metric("purchases_per_s", rate, "payments per second, the whole system"),
        Metric("token_bound_per_s", best, "payments per second that the bare tokens could do"),
        Metric("ratio", rate / best, "ratio", ".3f"),
        Metric("latency_p50_ms", p50, f"a payment takes, {concurrency} at a time, median (ms)"),
        Metric("latency_p99_ms", p99, "  99th percentile (ms)"),
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


def _latency(came: list[Payment], load: int) -> list[Metric]:
    p50, p99 = _percentiles(came)
    return [
        Metric(f"p50_ms_at_{load}", p50, f"a payment takes at {load} % of that rate, median (ms)"),
        Metric(f"p99_ms_at_{load}", p99, "  99th percentile (ms)"),
    ]


def _percentiles(payments: list[Payment]) -> tuple[float, float]:
    percentiles = statistics.quantiles([each.seconds * 1000 for each in payments], n=100, method="inclusive")
    return percentiles[49], percentiles[98]


if __name__ == "__main__":
    main()
