"""Certificates a second through the CA, one a request and in batches, and what its key alone could sign.

    python -m scripts.benchmarks.issuance --folder DIR --load L --seconds N --concurrency C --output table|json

DIR has an installation for each key in DIR/<suite>/home, and the raw loop. CA, HSM service and witness are processes of
their own; the load generator shares the machine with them and nothing is taken off for it. Cases are prepared before
each measurement: what is measured begins with an approved case and ends with a certificate that is stored and
recorded. The arms are taken in turns, and a ratio is the mean of one arm's rates over the mean of the raw arm's.

The raw arm signs with the CA's own key: PKCS #1 v1.5 or ECDSA over a SHA-256 digest, the best of 1, 2 and 4 threads and
2 processes. An answer without its certificates ends the benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cps.dossier import Dossier
from hsm_service.pkcs11_module import find_module
from hsm_service.provision import configuration_of, layout, pin_file
from hsm_service.registry import Registry
from runtime.client import async_http_client, raise_problem
from runtime.database import open_database
from runtime.problems import Problem
from runtime.secrets import read_secret
from runtime.settings import Home
from scripts.benchmarks.api_service import ApiService
from scripts.benchmarks.cardholder_cases import CaseMaker
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit

SUITES: Final = {"rsa3072": "pkcs1v15", "p256": "ecdsa"}
"""Name of the installation, and how the raw loop signs with its CA's key."""
ISSUER: Final = "cardholder-ca"
TOKEN: Final = "ca"  # noqa: S105  # its label
ROUNDS: Final = 3
BATCH: Final = 100
BATCHES_AT_ONCE: Final = 3
_WARM_UP: Final = 20  # cases; connections, caches and handles are there afterwards
_PER_SECOND: Final = {"api": 400, "batch": 1_000}
"""Cases that are prepared for each second of an arm; a faster CA ends earlier."""

_JSON: Final = {"content-type": "application/json"}


class Suite:
    """One installation under load, while the context of its service is open."""

    def __init__(self, name: str, folder: Path, service: ApiService, home: Home, concurrency: int) -> None:
        self._mechanism = SUITES[name]
        self._loop = folder / "raw_loop"
        self._home = home
        self._url = service.settings.ca.url
        self._concurrency = concurrency
        self._cases = CaseMaker(home)
        registry = Registry(open_database(home.db / "keys.db"))
        row = registry.find(ISSUER, 1)
        registry.close()
        if row is None:
            raise BenchmarkFailed(f"there is no key {ISSUER}")
        self._key_id = row.cka_id
        self._pin = read_secret(pin_file(home, TOKEN))
        self.api(_WARM_UP)
        self.batch(_WARM_UP)

    def raw(self, seconds: float) -> float:
        """Signatures a second of the CA's key alone: the best of four ways to run the loop."""
        ways = ([1], [2], [4], [1, 1])
        return max(sum(self._loops(way, seconds / len(ways))) for way in ways)

    def api(self, count: int) -> float:
        """Certificates a second, a request each."""
        bodies = [b'{"dossier":%b}' % case.to_json() for case in self._cases.make(count)]
        return asyncio.run(self._load("/v1/certificates", bodies, self._concurrency, count))

    def batch(self, count: int) -> float:
        """Certificates a second, a batch a request."""
        bodies = list(_batches(self._cases.make(count)))
        return asyncio.run(self._load("/v1/certificates:batch", bodies, BATCHES_AT_ONCE, count))

    async def _load(self, path: str, bodies: Sequence[bytes], connections: int, expected: int) -> float:
        waiting, found = iter(bodies), 0

        async def one(client: Any) -> None:
            nonlocal found
            for body in waiting:
                response = raise_problem(await client.post(path, content=body, headers=_JSON))
                found += response.content.count(b'"certificate":"')

        async with async_http_client(self._home.tls_files("ra"), self._url, timeout=120, connections=connections) as it:
            began = time.perf_counter()
            await asyncio.gather(*(one(it) for _ in range(connections)))
            elapsed = time.perf_counter() - began
        if found != expected:
            raise BenchmarkFailed(f"{found} certificates for {expected} approved cases")
        return expected / elapsed

    def _loops(self, threads: list[int], seconds: float) -> list[float]:
        environment = {**os.environ, "SOFTHSM2_CONF": str(configuration_of(self._home, layout().group_of(TOKEN)))}
        command = [self._loop, find_module(), TOKEN, self._key_id.hex(), self._mechanism]
        running = [
            subprocess.Popen(
                [*map(str, command), str(each), f"{seconds:.2f}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            for each in threads
        ]
        rates = []
        for process in running:
            printed, _ = process.communicate(self._pin.reveal() + b"\n")
            if process.returncode:
                raise BenchmarkFailed("the raw loop failed")
            rates.append(float(json.loads(printed)["per_second"]))
        return rates


def _batches(cases: Sequence[Dossier]) -> Iterator[bytes]:
    for start in range(0, len(cases), BATCH):
        yield b'{"dossiers":[%b]}' % b",".join(case.to_json() for case in cases[start : start + BATCH])


def measure(name: str, folder: Path, seconds: float, concurrency: int) -> list[Metric]:
    """The figures of one installation: its arms in turns."""
    home = Home(folder / name / "home")
    rates: dict[str, list[float]] = defaultdict(list)
    part = seconds / (2 * 3 * ROUNDS)
    with ApiService(home, also=("ca",)) as service:
        suite = Suite(name, folder, service, home, concurrency)
        for turn in range(ROUNDS):
            rates["raw"].append(suite.raw(part))
            rates["api"].append(suite.api(max(1, round(part * _PER_SECOND["api"]))))
            rates["batch"].append(suite.batch(max(1, round(part * _PER_SECOND["batch"]))))
            told = ", ".join(f"{arm} {values[-1]:,.1f}" for arm, values in rates.items())
            print(f"  round {turn + 1}, {name}: {told}", file=sys.stderr, flush=True)
    mean = {arm: statistics.fmean(values) for arm, values in rates.items()}
    return [
        Metric(f"raw_{name}_per_s", mean["raw"], f"{name}: raw C loop with the CA's key, signatures a second"),
        Metric(f"issue_api_{name}_per_s", mean["api"], f"{name}: issued over the API, a request each, a second"),
        Metric(f"issue_batch_{name}_per_s", mean["batch"], f"{name}: issued in batches of {BATCH}, a second"),
        Metric(f"issue_ratio_{name}", mean["batch"] / mean["raw"], f"{name}: batches, of the raw loop's rate", ".3f"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--output", choices=("table", "json"), required=True)
    options = parser.parse_args()
    metrics = []
    for name in SUITES:
        metrics += measure(name, options.folder, options.seconds, options.concurrency)
    by_name = {metric.name: metric.value for metric in metrics}
    # Under the plain name the figure of the hierarchy as it is founded, whose CAs have RSA keys.
    metrics.append(Metric("issue_api_per_s", by_name["issue_api_rsa3072_per_s"], "issued over the API, RSA-3072"))
    emit("issuance", options.load, metrics, as_json=options.output == "json")


if __name__ == "__main__":
    try:
        main()
    except (BenchmarkFailed, Problem) as failure:
        sys.exit(f"benchmark failed: {failure}")
