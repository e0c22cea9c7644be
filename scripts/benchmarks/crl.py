"""Seconds from stored rows to a signed, verified revocation list on disk, and the memory that this takes.

    python -m scripts.benchmarks.crl --folder DIR --load L --output table|json      (KWBP_HOME is set)

A database of the CA is filled with revocations, then lists are made as the publisher makes them (`ca.crl_encoder`) and
signed by the HSM service of an installation, in a process of its own. The best of three runs counts; the time of the
signing call, in which the service receives and judges the whole list, is shown apart.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from sqlalchemy import Engine, insert

from ca import tables
from ca.crl import crl_frame, entry_der, next_number
from ca.crl_encoder import Asked, write_tbs
from ca.hierarchy import Authority, load_hierarchy
from ca.store import Store
from hsm_service.client import HsmClient
from runtime.database import open_database
from runtime.settings import Home
from scripts.benchmarks.api_service import ApiService
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit

ISSUER: Final = "cardholder-ca"
ENTRIES: Final = {"100k": 100_000, "1m": 1_000_000}
ROUNDS: Final = 3
_AT_ONCE: Final = 10_000
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One list: seconds of encoding and of signing, bytes of memory that were needed on top, bytes of the list."""

    encoding: float
    signing: float
    memory: int
    size: int

    @property
    def seconds(self) -> float:
        return self.encoding + self.signing


def fill(engine: Engine, entries: int) -> None:
    """Revocations of random serials, with reasons, of the last year."""
    rng, now = random.Random(entries), datetime.now(UTC).replace(microsecond=0)  # noqa: S311  # figures, not keys
    with engine.begin() as db:
        db.execute(insert(tables.issuers).values(issuer=ISSUER, crl_number=0, status_epoch=entries))
        for start in range(0, entries, _AT_ONCE):
            rows = [_row(rng, start + number + 1, now) for number in range(min(_AT_ONCE, entries - start))]
            named = [{"issuer": ISSUER, "serial": row["serial"], "reserved_at": row["revoked_at"]} for row in rows]
            db.execute(insert(tables.serials), named)
            db.execute(insert(tables.revocations), rows)


def _row(rng: random.Random, epoch: int, now: datetime) -> dict[str, Any]:
    serial = format(rng.getrandbits(128) | 1 << 100, "x")
    at = now - timedelta(seconds=rng.randrange(1, 365 * 86_400))
    reason = rng.choice(["keyCompromise", "superseded", "cessationOfOperation"])
    return {
        "issuer": ISSUER,
        "serial": serial,
        "state": "revoked",
        "reason": reason,
        "revoked_at": at,
        "ordered_by": "service:ca",
        "epoch": epoch,
        "entry": entry_der(serial, at, reason),
    }


def make(store: Store, authority: Authority, hsm: HsmClient, version: int, folder: Path, number: int) -> Run:
    """One full list, from the rows to the file, its signature verified."""
    assert authority.profile.ca is not None
    now, path = datetime.now(UTC), folder / "list.crl"
    before = _forget_peak()
    began = time.perf_counter()
    with store.crls.full(ISSUER) as listing:
        frame = crl_frame(authority.issuer, number=number, size=listing.size, rule=authority.profile.ca.crl, now=now)
        finish = write_tbs(path, Asked(hsm, authority.issuer, version), frame, listing)
        entries = listing.entries
    encoded = time.perf_counter()
    finish()
    signed = time.perf_counter()
    memory = _memory("VmHWM") - before
    _verify(path, authority, entries)
    return Run(encoded - began, signed - encoded, memory, path.stat().st_size)


def _verify(path: Path, authority: Authority, entries: int) -> None:
    crl = x509.load_der_x509_crl(path.read_bytes())
    if not crl.is_signature_valid(authority.issuer.public_key) or len(crl) != entries:
        raise BenchmarkFailed("the list that was made is not the one that was to be made")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _forget_peak() -> int:
    """Bytes resident now; the peak is counted anew from here (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return _memory("VmRSS")


def measure(folder: Path) -> Iterator[Metric]:
    """The figures of both sizes."""
    home = Home.find()
    authority = load_hierarchy(home.pki)[ISSUER]
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(next_number(None, datetime.now(UTC)))  # of one key, whatever database a list is of
    with ApiService(home) as service, HsmClient.connect(service.settings.hsm.url, home.tls_files("ca")) as hsm:
        version = hsm.describe_key(ISSUER).version
        for name, entries in ENTRIES.items():
            engine = open_database(folder / f"{name}.db")
            store = Store(engine)
            fill(engine, entries)
            resident = service.resident_bytes()
            runs = [make(store, authority, hsm, version, folder, next(numbers)) for _ in range(ROUNDS)]
            best = min(runs, key=lambda run: run.seconds)
            words = f"{entries:,} entries"
            yield Metric(f"crl_{name}_s", best.seconds, f"{words}: seconds from rows to the signed file", ".3f")
            yield Metric(f"crl_{name}_encode_s", best.encoding, f"{words}: of these, writing the list", ".3f")
            yield Metric(f"crl_{name}_sign_s", best.signing, f"{words}: of these, having it judged and signed", ".3f")
            yield Metric(f"crl_{name}_mb", best.size / _MIB, f"{words}: size of the list, MiB")
            peak = max(run.memory for run in runs) / _MIB
            yield Metric(f"crl_{name}_peak_mb", peak, f"{words}: memory of the CA on top, at most, MiB")
            grown = (service.resident_bytes() - resident) / _MIB
            yield Metric(f"crl_{name}_hsm_mb", grown, f"{words}: by so much the HSM service grew, MiB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--output", choices=["table", "json"], required=True)
    arguments = parser.parse_args()
    metrics = list(measure(arguments.folder))
    emit("crl", arguments.load, metrics, as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
