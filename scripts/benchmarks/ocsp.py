"""Answers a second of the OCSP responder, signed ahead and live, and of `openssl ocsp` over an index of the same size.

    python -m scripts.benchmarks.ocsp --folder DIR --load L --seconds N --concurrency C --output table|json

The repository is one process and serves on one core. `openssl ocsp` signs each answer anew with a P-256 key in memory
and closes each connection, so it is compared with our live answers, and with answers signed ahead that are fetched over
a new connection each. KWBP_HOME is set; DIR holds the load generator.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import insert

from ca import tables
from ca.hierarchy import load_hierarchy
from ca.ocsp_policy import ocsp_policy
from ca.ocsp_presign import Presigner
from ca.ocsp_store import OcspStore
from ca.store import Store
from hsm_service.client import HsmClient
from pki.names import name
from pki.ocsp_structures import compose_request
from runtime.database import open_database
from runtime.settings import Home
from scripts.benchmarks.api_service import ApiService
from scripts.benchmarks.report import BenchmarkFailed, Metric, emit

ISSUER: Final = "merchant-ca"
CERTIFICATES: Final = 10_000
ASKED: Final = 1_000
"""Of them, so many are asked for in turns."""
_TYPE: Final = "application/ocsp-request"


def fill(home: Home, serials: Sequence[int]) -> OcspStore:
    """Certificates on record under these serials. Only status is asked of them."""
    engine = open_database(home.db / "ca.sqlite")
    Store(engine)
    now = datetime.now(UTC).replace(microsecond=0)
    rows: list[dict[str, Any]] = []
    for number, serial in enumerate(serials):
        rows.append(
            {
                "issuer": ISSUER,
                "serial": format(serial, "x"),
                "profile": "merchant-signing",
                "subject": f"CN=M-{number}",
                "sha256": secrets.token_hex(32),
                "spki_sha256": secrets.token_hex(32),
                "not_before": now,
                "not_after": now + timedelta(days=90),
                "stored_at": now,
                "der": b"",
            }
        )
    named = [{"issuer": ISSUER, "serial": row["serial"], "reserved_at": now} for row in rows]
    with engine.begin() as db:
        db.execute(insert(tables.serials), named)
        db.execute(insert(tables.certificates), rows)
    return OcspStore(engine)


def write_requests(path: Path, url: str, requests: Sequence[bytes], *, close: bool = False) -> Path:
    """Whole HTTP requests for the load generator."""
    connection = "Connection: close\r\n" if close else ""
    with path.open("wb") as file:
        for body in requests:
            head = (
                f"POST {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {_TYPE}\r\n{connection}"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            whole = head.encode("ascii") + body
            file.write(struct.pack("<I", len(whole)) + whole)
    return path


def load(folder: Path, port: int, requests: Path, *, connections: int, seconds: float) -> float:
    """Good answers a second, all connections busy; BenchmarkFailed if an answer was none."""
    command = [folder / "http_load", str(port), str(connections), f"{seconds:.1f}", requests]
    done = subprocess.run([str(part) for part in command], capture_output=True, check=True, timeout=seconds + 60)
    found = json.loads(done.stdout)
    if found["failed"]:
        raise BenchmarkFailed(f"{found['failed']} answers were no status")
    return float(found["per_second"])


@contextlib.contextmanager
def running(command: Sequence[str | Path], url: str, **options: Any) -> Iterator[None]:
    """A process that answers HTTP at `url`."""
    process = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=options.get("stderr")
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"{command[0]} does not answer at {url}")
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url, timeout=2)
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def openssl_arm(folder: Path, serials: Sequence[int], asked: Sequence[int], connections: int, seconds: float) -> float:
    """Answers a second of `openssl ocsp` with a CA of its own over an index of these serials."""
    here = folder / "openssl-ocsp"
    here.mkdir(exist_ok=True)
    key, responder_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now, subject = datetime.now(UTC).replace(microsecond=0), name(cn="Benchmark CA", o="Benchmark")
    common = x509.CertificateBuilder(not_valid_before=now - timedelta(hours=1), not_valid_after=now + timedelta(days=1))
    ca = (
        common.subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    responder = (
        common.subject_name(name(cn="Benchmark status", o="Benchmark"))
        .issuer_name(subject)
        .public_key(responder_key.public_key())
        .serial_number(2)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (here / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (here / "responder.pem").write_bytes(responder.public_bytes(Encoding.PEM))
    private = responder_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (here / "responder.key").touch(mode=0o600)
    (here / "responder.key").write_bytes(private)
    ends = (now + timedelta(days=90)).strftime("%y%m%d%H%M%SZ")
    lines = [f"V\t{ends}\t\t{_index_hex(serial)}\tunknown\t/CN=M-{n}\n" for n, serial in enumerate(serials)]
    (here / "index.txt").write_text("".join(lines), "ascii")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    requests = write_requests(here / "requests", "/", [compose_request(each, ca) for each in asked], close=True)
    command: list[str | Path] = [
        "openssl",
        "ocsp",
        "-index",
        here / "index.txt",
        "-port",
        str(port),
        "-CA",
        here / "ca.pem",
    ]
    command += ["-rsigner", here / "responder.pem", "-rkey", here / "responder.key", "-nmin", "60", "-ignore_err"]
    with running(command, f"http://127.0.0.1:{port}/", stderr=subprocess.DEVNULL):
        return load(folder, port, requests, connections=connections, seconds=seconds)


def _index_hex(serial: int) -> str:
    text = format(serial, "X")
    return text if len(text) % 2 == 0 else f"0{text}"


def measure(folder: Path, connections: int, seconds: float) -> Iterator[Metric]:
    """The figures of all arms; each takes a fourth of the time."""
    home, each = Home.find(), seconds / 4
    hierarchy = load_hierarchy(home.pki)
    issuer = hierarchy[ISSUER].certificate
    serials = [int.from_bytes(os.urandom(15), "big") | 1 << 119 for _ in range(CERTIFICATES)]
    asked = serials[:ASKED]
    store = fill(home, serials)
    with ApiService(home) as service:
        port = service.settings.repository.port
        with HsmClient.connect(service.settings.hsm.url, home.tls_files("ca")) as hsm:
            began = time.perf_counter()
            signed = Presigner(store, hierarchy, hsm, ocsp_policy()).presign_due(datetime.now(UTC))
            ahead = signed / (time.perf_counter() - began)
        command: list[str | Path] = [sys.executable, "-m", "cli", "--home", home.path, "serve", "repository"]
        with running(command, f"{service.settings.repository.url}/health/live"):
            plain = [compose_request(serial, issuer) for serial in asked]
            kept = write_requests(folder / "presigned", "/ocsp", plain)
            fresh = write_requests(folder / "presigned-fresh", "/ocsp", plain, close=True)
            with_nonce = [compose_request(serial, issuer, nonce=os.urandom(16)) for serial in asked]
            live = write_requests(folder / "live", "/ocsp", with_nonce)
            load(folder, port, kept, connections=connections, seconds=2)  # every answer has been looked up once
            presigned = load(folder, port, kept, connections=connections, seconds=each)
            reconnecting = load(folder, port, fresh, connections=connections, seconds=each)
            at_once = max(connections, 64)  # what is asked together is signed together
            lively = load(folder, port, live, connections=at_once, seconds=each)
    judge = openssl_arm(folder, serials, asked, connections, each)
    yield Metric("presigned_per_s", presigned, "answers signed ahead, a second, one process")
    yield Metric("presigned_reconnecting_per_s", reconnecting, "the same, a new connection each")
    yield Metric("live_per_s", lively, "live answers with a nonce, a second")
    yield Metric("openssl_ocsp_per_s", judge, "openssl ocsp: answers a second, a new connection each")
    yield Metric("ahead_per_s", ahead, "signing ahead: answers a second, in batches, kept in the database")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--load", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--output", choices=["table", "json"], required=True)
    arguments = parser.parse_args()
    metrics = list(measure(arguments.folder, arguments.concurrency, arguments.seconds))
    emit("ocsp", arguments.load, metrics, as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
