"""Golden deltas, partitions, OCSP answers and time-stamps, judged by OpenSSL, GnuTLS, NSS and pkilint.

NSS reads neither delta lists nor time-stamps, so of these OpenSSL, GnuTLS and pkilint are the judges; GnuTLS knows
time-stamps as CMS messages only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.crl import CrlScope
from ca.ocsp_answer import CertificateStatus
from pki.ocsp import verify_ocsp
from pki.timestamp import verify_token
from tests.support import pkilint_judge
from tests.support.golden import PUBLICATION, Golden
from tests.support.golden_status import ocsp_response, timestamp
from tests.support.judges import certtool, openssl, run

DATA = b"what was there"


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden(datetime.now(UTC))


@pytest.fixture(scope="module")
def folder(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("golden")
    golden.write(made)
    return made


STATUS = {
    "good": lambda _now: CertificateStatus("good"),
    "revoked": lambda now: CertificateStatus("revoked", now - timedelta(hours=1), "superseded"),
    "held": lambda now: CertificateStatus("revoked", now - timedelta(hours=1), "certificateHold"),
    "unknown": lambda _now: CertificateStatus("unknown"),
}


@pytest.mark.parametrize(
    "scope",
    [CrlScope(base=3), CrlScope(address=f"{PUBLICATION.repository}/crls/merchant-ca/partition-1.crl")],
    ids=["delta", "partition"],
)
def test_deltas_and_partitions_are_accepted_by_all(golden: Golden, folder: Path, scope: CrlScope) -> None:
    crl = golden.crl("merchant-ca", revoked=[golden["merchant-signing"].certificate], scope=scope)
    path = folder / "scope.crl"
    path.write_bytes(crl.public_bytes(Encoding.DER))

    openssl("crl", "-inform", "DER", "-in", path, "-noout", "-verify", "-CAfile", folder / "merchant-ca.pem")
    certtool("--verify-crl", "--inder", "--load-ca-certificate", folder / "merchant-ca.der", "--infile", path)
    assert pkilint_judge.crl_errors(crl.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize("kind", STATUS)
def test_an_ocsp_answer_is_accepted_by_openssl_gnutls_and_pkilint(golden: Golden, folder: Path, kind: str) -> None:
    answer = ocsp_response(golden, "merchant-signing", STATUS[kind](golden.now))
    path = folder / "answer.der"
    path.write_bytes(answer)
    said = {"held": "revoked"}.get(kind, kind)

    shown = openssl(
        "ocsp", "-respin", path, "-no_nonce", "-issuer", folder / "merchant-ca.pem",
        "-cert", folder / "merchant-signing.pem", "-CAfile", folder / "root.pem",
        "-verify_other", folder / "authorities.pem",
    )  # fmt: skip
    gnutls = run(
        "ocsptool", "--verify-response", "--load-response", path, "--load-issuer", folder / "merchant-ca.pem",
        "--load-signer", folder / "ocsp-merchant-ca.pem",
    )  # fmt: skip
    read = run("ocsptool", "--response-info", "--infile", path)

    assert f"merchant-signing.pem: {said}".encode() in shown
    assert b"Verifying OCSP Response: Success" in gnutls.stdout + gnutls.stderr
    assert f"Certificate Status: {said}".encode() in read.stdout
    assert pkilint_judge.ocsp_errors(answer) == []
    status = verify_ocsp(
        answer,
        certificate=golden["merchant-signing"].certificate,
        issuer=golden["merchant-ca"].certificate,
        now=golden.now,
    )
    assert status.state == said


@pytest.fixture(scope="module")
def answers() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A responder's address, and what it answers."""
    answer: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/ocsp-response")
            self.send_header("content-length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "said"), [("good", b"succeeded"), ("revoked", b"revoked"), ("unknown", b"has no status")]
)
def test_nss_believes_an_ocsp_answer(
    golden: Golden, folder: Path, answers: tuple[str, dict[str, bytes]], tmp_path: Path, kind: str, said: bytes
) -> None:
    url, answer = answers
    answer["body"] = ocsp_response(golden, "merchant-signing", STATUS[kind](golden.now))
    database = f"sql:{tmp_path}"
    assert run("certutil", "-N", "--empty-password", "-d", database).returncode == 0
    for name in ("root", "brand", "merchant-ca", "merchant-signing", "ocsp-merchant-ca"):
        trust = {"root": "CT,C,C"}.get(name, ",,")
        added = run("certutil", "-A", "-n", name, "-t", trust, "-i", folder / f"{name}.pem", "-d", database)
        assert added.returncode == 0, added.stderr.decode()

    done = run(
        "ocspclnt", "-S", "merchant-signing", "-l", url, "-t", "ocsp-merchant-ca", "-d", database
    )  # fmt: skip

    assert said in (done.stdout + done.stderr).lower(), (done.stdout + done.stderr).decode()


def test_a_time_stamp_is_accepted_by_openssl_and_read_by_gnutls(golden: Golden, folder: Path) -> None:
    token = timestamp(golden, DATA)
    (folder / "token.tst").write_bytes(token)
    (folder / "data").write_bytes(DATA)

    said = openssl(
        "ts", "-verify", "-token_in", "-in", folder / "token.tst", "-data", folder / "data",
        "-CAfile", folder / "root.pem", "-untrusted", folder / "authorities.pem",
    )  # fmt: skip
    read = certtool("--p7-info", "--inder", "--infile", folder / "token.tst")

    assert b"Verification: OK" in said
    assert b"eContent Type: 1.2.840.113549.1.9.16.1.4" in read
    trust = golden.trust()
    assert verify_token(token, DATA, trust=trust, nonce=7).gen_time == golden.now
