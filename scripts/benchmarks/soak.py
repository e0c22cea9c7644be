"""Memory of the HSM service and its token processes over many operations: what leaks shows as growth.

    python -m scripts.benchmarks.soak --native DIR --load L --operations N --output table|json      (KWBP_HOME is set)

A tenth of the operations come one a request, the others in batches of 100. The first tenth of all warms the service up:
caches fill, allocators reach their size. Growth is what is resident at the end, of what was resident after that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from hsm_service.client import HsmClient
from runtime.settings import Home
from scripts.benchmarks.api_service import ApiService
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit
from scripts.benchmarks.signing import BATCH, BATCHES_AT_ONCE, SINGLES_AT_ONCE, Bench
from scripts.benchmarks.signing_keys import key_name

PREFIX: Final = "p256"
PARTS: Final = 10
_STRETCH: Final = 5.0  # seconds of one run of the load generator
_MEBIBYTE: Final = 2**20


def soak(bench: Bench, service: ApiService, client: HsmClient, operations: int) -> list[Metric]:
    """Do at least `operations`, and say what became of the memory."""
    first = client.describe_key(key_name(PREFIX)).uses
    done, resident, rates = 0, [service.resident_bytes()], []
    for part in range(1, PARTS + 1):
        goal = operations * part // PARTS
        singles_to = done + (goal - done) // PARTS
        while done < goal:
            if done < singles_to:
                bench.closed(PREFIX, "single", SINGLES_AT_ONCE, _STRETCH)
            else:
                rates.append(bench.closed(PREFIX, "batch", BATCHES_AT_ONCE, _STRETCH) * BATCH)
            done = client.describe_key(key_name(PREFIX)).uses - first
        resident.append(service.resident_bytes())
        print(f"  {done:,} operations, {resident[-1] / _MEBIBYTE:,.1f} MiB resident", file=sys.stderr, flush=True)
    warm, end = resident[1], resident[-1]
    return [
        Metric("operations", done, "operations", ",.0f"),
        Metric("resident_mib_warm", warm / _MEBIBYTE, "MiB resident after the first tenth"),
        Metric("resident_mib_end", end / _MEBIBYTE, "MiB resident at the end"),
        Metric("rss_growth_percent", (end - warm) / warm * 100, "growth, percent", ".2f"),
        Metric("batch100_per_s", sum(rates) / len(rates), f"signatures a second in batches of {BATCH}"),
    ]


def main() -> None:
    """Soak the installation that `KWBP_HOME` names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--native", type=Path, required=True)
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--output", choices=("table", "json"), required=True)
    options = parser.parse_args()
    home = Home.find()
    with (
        ApiService(home) as service,
        HsmClient.connect(service.settings.hsm.url, home.tls_files("operator")) as client,
        tempfile.TemporaryDirectory(dir=home.path) as folder,
    ):
        metrics = soak(Bench(home, options.native, service, Path(folder)), service, client, options.operations)
    emit("soak", options.load, metrics, as_json=options.output == "json")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkFailed as error:
        sys.exit(f"benchmark failed: {error}")
