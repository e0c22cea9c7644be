"""Signatures per second: a raw C loop, a python-pkcs11 loop and the signing API on the same keys, taken in turns.

    python -m scripts.benchmarks.signing --native DIR --load L --seconds N --output table|json      (KWBP_HOME is set)

Each round takes every arm of every key for N/10 seconds, so that what slows the machine slows all of them. The raw arm
is the best of 1, 2 and 4 threads and 2 processes. A ratio is the mean of the API's rates over the mean of the raw
arm's. Then an open loop offers the API 25, 50, 75, 90 and 150 % of what it did closed, for the latency. The load
generator shares the machine with the service; nothing is taken off for it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pkcs11
from pkcs11 import MGF, Attribute, Mechanism, ObjectClass

from audit import Journal
from hsm_service.pkcs11_module import find_module
from hsm_service.provision import configuration_of, layout, load_group, pin_file
from hsm_service.registry import Registry
from runtime.database import open_database
from runtime.secrets import read_secret
from runtime.settings import Home
from scripts.benchmarks.api_service import ApiService
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit
from scripts.benchmarks.signing_keys import KEYS, key_name

TOKEN: Final = "ca"  # noqa: S105  # its label
ROUNDS: Final = 3
BATCH: Final = 100
SINGLES_AT_ONCE: Final = 32
BATCHES_AT_ONCE: Final = 4
OPEN_LOOP: Final = (25, 50, 75, 90, 150)
OPEN_CONNECTIONS: Final = 128

_ALGORITHMS: Final = {"rsa2048": "rsa-pss-sha256", "rsa3072": "rsa-pss-sha256", "p256": "ecdsa-sha256"}
_NATIVE: Final = {"rsa2048": "pss", "rsa3072": "pss", "p256": "ecdsa"}
_PSS: Final = (Mechanism.SHA256, MGF.SHA256, 32)


class Bench:
    """The arms of one installation."""

    def __init__(self, home: Home, native: Path, service: ApiService, folder: Path) -> None:
        self._home = home
        self._native = native
        self._port = service.settings.hsm.port
        self._tls = home.tls_files("operator")
        self._folder = folder
        registry = Registry(open_database(home.db / "keys.db"))
        self._ids = {prefix: self._id(registry, prefix) for prefix in KEYS}
        registry.close()
        self._pin = read_secret(pin_file(home, TOKEN))
        module = load_group(home, layout().group_of(TOKEN))
        self._token = module.token(TOKEN)
        self._login = self._token.open(user_pin=self._pin.reveal().decode("ascii"))
        for prefix in KEYS:
            self._request(prefix, "single", f"/v1/keys/{key_name(prefix)}:sign", self._item(prefix) | {"kind": "raw"})
            items = [self._item(prefix) for _ in range(BATCH)]
            self._request(prefix, "batch", f"/v1/keys/{key_name(prefix)}:batchSign", {"kind": "raw", "items": items})

    def raw(self, prefix: str, seconds: float) -> float:
        """Signatures per second of the C loop: the best of four ways to run it."""
        ways = ([1], [2], [4], [1, 1])
        each = seconds / len(ways)
        return max(sum(found["per_second"] for found in self._loops(prefix, way, each)) for way in ways)

    def raw_p99_ms(self, prefix: str, seconds: float) -> float:
        """The 99th percentile of a single call of the C loop, milliseconds."""
        return float(self._loops(prefix, [1], seconds)[0]["p99_us"]) / 1e3

    def python(self, prefix: str, seconds: float) -> float:
        """Signatures per second of python-pkcs11 with cached handles: the better of one and two threads."""
        return max(self._python(prefix, threads, seconds / 2) for threads in (1, 2))

    def closed(self, prefix: str, kind: str, connections: int, seconds: float) -> float:
        """Requests per second of the API, all connections busy."""
        return float(self._load(prefix, kind, connections, seconds, 0)["per_second"])

    def open(self, prefix: str, rate: float, seconds: float) -> dict[str, Any]:
        """What becomes of `rate` single requests a second."""
        return self._load(prefix, "single", OPEN_CONNECTIONS, seconds, rate)

    def _id(self, registry: Registry, prefix: str) -> bytes:
        row = registry.find(key_name(prefix), 1)
        if row is None:
            raise BenchmarkFailed(f"there is no key {key_name(prefix)}")
        return row.cka_id

    def _item(self, prefix: str) -> dict[str, str]:
        return {"content": base64.b64encode(os.urandom(32)).decode(), "algorithm": _ALGORITHMS[prefix]}

    def _request(self, prefix: str, kind: str, path: str, body: dict[str, Any]) -> None:
        content = json.dumps(body, separators=(",", ":")).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        (self._folder / f"{prefix}-{kind}").write_bytes(head.encode() + content)

    def _loops(self, prefix: str, processes: list[int], seconds: float) -> list[dict[str, Any]]:
        environment = {**os.environ, "SOFTHSM2_CONF": str(configuration_of(self._home, layout().group_of(TOKEN)))}
        command = [self._native / "raw_loop", find_module(), TOKEN, self._ids[prefix].hex(), _NATIVE[prefix]]
        running = [
            subprocess.Popen(
                [*map(str, command), str(threads), f"{seconds:.2f}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            for threads in processes
        ]
        for process in running:
            assert process.stdin is not None
            process.stdin.write(self._pin.reveal() + b"\n")
            process.stdin.close()
            process.stdin = None
        return [_json(process.communicate()[0], "the raw loop") for process in running]

    def _python(self, prefix: str, threads: int, seconds: float) -> float:
        rates = [0.0] * threads
        gate = threading.Barrier(threads)

        def loop(number: int) -> None:
            session = self._token.open()
            wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: self._ids[prefix]}
            key: Any = next(iter(session.get_objects(wanted)))
            rsa = prefix.startswith("rsa")
            mechanism = Mechanism.RSA_PKCS_PSS if rsa else Mechanism.ECDSA
            parameters = _PSS if rsa else None
            digest = bytes(32)
            gate.wait()
            begun = now = time.perf_counter()
            done = 0
            while now - begun < seconds:
                key.sign(digest, mechanism=mechanism, mechanism_param=parameters)
                done += 1
                now = time.perf_counter()
            rates[number] = done / (now - begun)

        workers = [threading.Thread(target=loop, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)

    def _load(self, prefix: str, kind: str, connections: int, seconds: float, rate: float) -> dict[str, Any]:
        files = (self._tls.certificate, self._tls.key, self._tls.ca)
        arguments = [
            self._port,
            *files,
            connections,
            f"{seconds:.2f}",
            f"{rate:.2f}",
            self._folder / f"{prefix}-{kind}",
        ]
        done = subprocess.run([str(self._native / "load"), *map(str, arguments)], stdout=subprocess.PIPE, check=False)
        found = _json(done.stdout, "the load generator")
        if found["failed"]:
            raise BenchmarkFailed(f"{found['failed']} requests to sign with {key_name(prefix)} failed")
        return found


def _json(text: bytes, who: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        raise BenchmarkFailed(f"{who} failed") from None
    return found


def _commit_p99_ms(folder: Path) -> float:
    """The 99th percentile of one durable append to a journal, milliseconds."""
    times = []
    with Journal.open(folder / "commit.jsonl") as journal:
        for number in range(1_000):
            begun = time.perf_counter()
            journal.append({"event": "measurement", "number": number})
            times.append(time.perf_counter() - begun)
    return statistics.quantiles(times, n=100)[98] * 1e3


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(bench: Bench, seconds: float, folder: Path) -> list[Metric]:
    """Every figure, the arms in turns."""
    part = seconds / 10
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(ROUNDS):
        for prefix in KEYS:
            rates[prefix, "raw"].append(bench.raw(prefix, 2 * part))
            rates[prefix, "python"].append(bench.python(prefix, part))
            rates[prefix, "single"].append(bench.closed(prefix, "single", SINGLES_AT_ONCE, part))
            rates[prefix, "batch100"].append(bench.closed(prefix, "batch", BATCHES_AT_ONCE, part) * BATCH)
            _say(f"  round {turn + 1}, {prefix}: " + _line({arm: rates[prefix, arm][-1] for arm in ARMS}))
    metrics = []
    mean = {key: statistics.fmean(values) for key, values in rates.items()}
    for prefix in KEYS:
        for arm, words in ARMS.items():
            metrics.append(Metric(f"{prefix}_{arm}_per_s", mean[prefix, arm], f"{prefix}: {words}, a second"))
            if arm in {"single", "batch100"}:
                ratio = mean[prefix, arm] / mean[prefix, "raw"]
                metrics.append(Metric(f"{prefix}_{arm}_ratio", ratio, f"{prefix}: the same, of the raw loop's", ".3f"))
    commit = _commit_p99_ms(folder)
    metrics.append(Metric("commit_p99_ms", commit, "one durable append to the journal, p99 ms", ".3f"))
    for prefix in KEYS:
        capacity = mean[prefix, "single"]
        raw_p99 = bench.raw_p99_ms(prefix, part)
        for share in OPEN_LOOP:
            found = bench.open(prefix, capacity * share / 100, 2 * part)
            _say(f"  {prefix} at {share} %: " + _line(found))
            for percentile in ("p50", "p99"):
                name = f"{prefix}_{percentile}_ms_at_{share}"
                words = f"{prefix}: at {share} % of its capacity, {percentile} ms"
                metrics.append(Metric(name, found[f"{percentile}_ms"], words, ".2f"))
            if share == 50:
                added = found["p99_ms"] - raw_p99 - commit
                words = f"{prefix}: p99 at half load beyond the bare operation's and a commit's, ms"
                metrics.append(Metric(f"{prefix}_added_p99_ms_at_50", added, words, ".2f"))
            if share == 150:
                words = f"{prefix}: answered at 150 % load, of its capacity"
                metrics.append(Metric(f"{prefix}_goodput_ratio_at_150", found["per_second"] / capacity, words, ".3f"))
    by_name = {metric.name: metric.value for metric in metrics}
    # The figures of the key for which a service costs most, under the plain names.
    for name, words in (
        ("added_p99_ms_at_50", "added p99 at half load (p256), ms"),
        ("goodput_ratio_at_150", "goodput at 150 % load (p256)"),
    ):
        metrics.append(Metric(name, by_name[f"p256_{name}"], words, ".3f"))
    return metrics


ARMS: Final = {
    "raw": "raw C loop",
    "python": "python-pkcs11 loop",
    "single": "API, one a request",
    "batch100": f"API, batches of {BATCH}",
}


def _line(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:,.1f}" for name, value in values.items())


def main() -> None:
    """Measure the installation that `KWBP_HOME` names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--native", type=Path, required=True)
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", choices=("table", "json"), required=True)
    options = parser.parse_args()
    home = Home.find()
    with ApiService(home) as service, tempfile.TemporaryDirectory(dir=home.path) as folder:
        bench = Bench(home, options.native, service, Path(folder))
        metrics = measure(bench, options.seconds, Path(folder))
    emit("signing", options.load, metrics, as_json=options.output == "json")


if __name__ == "__main__":
    try:
        main()
    except (BenchmarkFailed, pkcs11.PKCS11Error) as error:
        sys.exit(f"benchmark failed: {error}")
