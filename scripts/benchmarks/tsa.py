"""Time-stamps per second over HTTP, with every answer read and one in a hundred judged in full.

    python -m scripts.benchmarks.tsa --load L --seconds N --concurrency C --output table|json      (KWBP_HOME is set)

The load generator shares the machine with the services; nothing is taken off for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from ca.published_trust import published_trust
from ca.tsa_service import QUERY_TYPE
from pki.errors import PkiError
from pki.timestamp import build_query, read_response, verify_token
from runtime.keepalive import KeepAliveClient
from runtime.settings import Home, Settings
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit

DATA: Final = b"what the gateway answered"
WARM_UP: Final = 1.0
"""Seconds that are not counted."""
FEWEST: Final = 20
"""Time-stamps that the figures are made of, at least: on a slow machine it takes longer than asked."""
_JUDGED: Final = 100
_HEADERS: Final = {"content-type": QUERY_TYPE}


async def measure(url: str, seconds: float, concurrency: int) -> tuple[float, list[float], list[tuple[int, bytes]]]:
    """Seconds it took, latencies (seconds) of what was granted meanwhile, and some answers with their nonces."""
    latencies: list[float] = []
    sample: list[tuple[int, bytes]] = []
    client = KeepAliveClient(url, None, timeout=30, connections=concurrency)
    start = time.perf_counter() + WARM_UP
    end = start + seconds
    last = end

    async def ask() -> None:
        nonlocal last
        while (began := time.perf_counter()) < end or len(latencies) < FEWEST:
            nonce = int.from_bytes(os.urandom(8), "big")
            response = await client.request("POST", "/tsa", content=build_query(DATA, nonce=nonce), headers=_HEADERS)
            token = read_response(response.content)  # raises for what was not granted
            ended = time.perf_counter()
            if began >= start and (ended <= end or len(latencies) < FEWEST):
                last = max(last, ended)
                latencies.append(ended - began)
                if len(latencies) % _JUDGED == 1:
                    sample.append((nonce, token))

    try:
        await asyncio.gather(*(ask() for _ in range(concurrency)))
    finally:
        await client.aclose()
    return last - start, latencies, sample


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--output", choices=["table", "json"], required=True)
    arguments = parser.parse_args()
    home = Home(Path(os.environ["KWBP_HOME"]))
    url = Settings.load(home).repository.url
    took, latencies, sample = asyncio.run(measure(url, arguments.seconds, arguments.concurrency))
    trust, numbers = published_trust(home.pki), set()
    for nonce, token in sample:
        stamp = verify_token(token, DATA, trust=trust, nonce=nonce)
        if abs((stamp.gen_time - datetime.now(UTC)).total_seconds()) > 2 * took + 60:
            raise BenchmarkFailed("a time-stamp is of another time")
        numbers.add(stamp.serial)
    if len(numbers) != len(sample):
        raise BenchmarkFailed("two time-stamps have one number")
    p99 = statistics.quantiles(latencies, n=100)[98] * 1e3
    metrics = [
        Metric("timestamps_per_s", len(latencies) / took, "time-stamps per second"),
        Metric("timestamp_p50_ms", statistics.median(latencies) * 1e3, "median latency, ms", ",.2f"),
        Metric("timestamp_p99_ms", p99, "99th percentile, ms", ",.2f"),
    ]
    emit("tsa", arguments.load, metrics, as_json=arguments.output == "json")


if __name__ == "__main__":
    try:
        main()
    except (BenchmarkFailed, PkiError, httpx.HTTPError) as failure:
        sys.exit(f"benchmark failed: {failure}")
