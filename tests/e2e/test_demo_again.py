"""The demo's installation started once more: what was stored is still true; a merchant that keeps its own key joins.

Everything is done as a person would: `kwbp` commands and `openssl req`.
"""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from shetab.iran import build_iban, company_check_digit
from tests.e2e.conftest import Demo, Shell
from tests.e2e.strangers import Shop, fetched, shop_in
from tests.support.judges import openssl, run
from tests.support.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_purchase_is_still_known_everywhere(demo: Demo, kwbp: Shell) -> None:
    xid = demo.report["xid"]
    order = kwbp("gateway", "order", xid, "--merchant", "M-1")
    assert (order["state"], order["amount"]) == ("ACKED", demo.report["amount"])
    assert [row["state"] for row in kwbp("merchant", "orders", "bookshop") if row["xid"] == xid] == ["RECEIPTED"]
    assert [row["state"] for row in kwbp("wallet", "history") if row["xid"] == xid] == ["PAID"]


def test_services_that_start_together_wait_for_each_other(demo: Demo, kwbp: Shell) -> None:
    assert [path.name for path in (demo.home / "log").glob("*.log") if "Traceback" in path.read_text()] == []
    assert "bci-not-published" not in (demo.home / "log" / "ca.log").read_text()  # it would be 30 s late


def applied_with_own_key(kwbp: Shell, folder: Path, server: str, merchant_id: str, terminal: str) -> str:
    """A merchant with an RSA key of its own, made by OpenSSL, has applied and shown its documents: application id."""
    key, request = folder / f"{server}.key", folder / f"{server}.csr"
    new_key = ("-newkey", "rsa:3072", "-nodes", "-keyout", key)
    subprocess.run(
        ["openssl", "req", "-new", *new_key, "-out", request, "-subj", f"/CN={server}"], capture_output=True, check=True
    )
    key.chmod(0o600)
    kwbp(
        *("merchant", "configure", server, "--merchant-id", merchant_id, "--shop", server, "--terminal", terminal),
        *("--port", str(free_port()), "--own-key", str(key)),
    )
    serial = merchant_id.removeprefix("M-")
    company, iban = f"1400200{serial:0>3}", build_iban("054", serial)
    kwbp("registers", "company", company + company_check_digit(company), f"{server} Co", "--iban", iban)
    applied = kwbp(
        *("merchant", "apply", server, "--iban", iban),
        *("--organisation", f"{server} Co", "--csr", str(request)),
    )
    agreement = folder / "acquirer_agreement"
    agreement.write_text("an agreement")
    kwbp(
        *("ra", "evidence", "add", applied["id"], f"acquirer_agreement={agreement}", "--source", "paper file"),
        *kwbp.acting("vetting-officer-1"),
    )
    return str(applied["id"])


def test_a_merchant_that_keeps_its_own_key_joins_and_sells(demo: Demo, kwbp: Shell, tmp_path: Path) -> None:
    application = applied_with_own_key(kwbp, tmp_path, "own", "M-3", "T0000003")
    kwbp("ra", "vet", "--yes", application, *kwbp.acting("vetting-officer-1"))
    kwbp("ra", "approve", "--yes", application, *kwbp.acting("approving-officer-1"))
    kwbp("merchant", "collect", "own", application)
    kwbp("gateway", "add-merchant", "M-3", "--terminal", "T0000003", "--name", "Own")
    kwbp("status", "merchant-own", "--wait", "60")
    bought = kwbp(
        *("wallet", "buy", "golestan", "--shop", "own", "--card", "mehr", "--yes", "--card-from-stdin"),
        stdin=json.dumps(demo.card),
    )
    assert bought["state"] == "PAID"
    bundle = tmp_path / "bundle"
    kwbp("evidence", "export", bought["xid"], "--out", str(bundle))
    assert subprocess.run(["sh", str(bundle / "verify.sh")], capture_output=True, check=False).returncode == 0
    buyers = tmp_path / "buyers"
    kwbp("evidence", "export", bought["xid"], "--out", str(buyers), "--wallet", str(demo.folder / "wallet"))
    judged = kwbp("evidence", "judge", str(buyers))
    assert (judged["conclusion"], judged["openssl"]["agrees"], judged["openssl"]["holds"]) == ("holds", True, True)


def test_an_officer_may_not_decide_twice_or_out_of_role(kwbp: Shell, tmp_path: Path) -> None:
    application = applied_with_own_key(kwbp, tmp_path, "twice", "M-4", "T0000004")
    out_of_role = kwbp("ra", "vet", "--yes", application, *kwbp.acting("approving-officer-1"), code=1)
    assert out_of_role["clause"] == "CPS 5.2.1"
    kwbp("ra", "vet", "--yes", application, *kwbp.acting("vetting-officer-1"))
    twice = kwbp("ra", "approve", "--yes", application, *kwbp.acting("vetting-officer-1"), code=1)
    assert twice["clause"].startswith("CPS 5.2")
    assert kwbp("ra", "show", application)["state"] == "AWAITING_APPROVAL"
    kwbp("ra", "withdraw", application)


def test_a_lost_answer_of_the_bank_is_pending_and_the_money_comes_back(demo: Demo, kwbp: Shell) -> None:
    iban = _account(demo)
    before = kwbp("bank", "balance", iban)["balance"]
    kwbp("bank", "faults", "set", "drop", "--mti", "0200")
    order = kwbp(
        *("wallet", "buy", "golestan", "--shop", "bookshop", "--card", "mehr", "--yes", "--card-from-stdin"),
        stdin=json.dumps(demo.card),
        code=1,
    )
    assert order["state"] == "PENDING"
    assert order["auth_code"] == "noReply"
    for _ in range(60):
        gateway = kwbp("gateway", "order", order["xid"], "--merchant", "M-1")
        if gateway["state"] == "REVERSED":
            break
    assert gateway["state"] == "REVERSED"
    assert kwbp("bank", "balance", iban)["balance"] == before


def _account(demo: Demo) -> str:
    """The buyer's account, as the demo's own step printed it."""
    logs = (path.read_text() for path in sorted((demo.folder / "steps").glob("*.log")))
    return str(next(json.loads(text)["iban"] for text in logs if text.startswith("{") and '"iban"' in text))


# -- measured: no figure is judged


def test_the_benchmark_states_the_rate_the_bound_their_ratio_and_how_long_a_payment_takes(
    demo: Demo, kwbp: Shell, tmp_path: Path
) -> None:
    account = kwbp("bank", "open-account", "--holder", "Buyer bench", "--balance", "999999999999")
    card = kwbp("bank", "issue-card", "--iban", account["iban"])
    kwbp("wallet", "add-card", "bench", "--algorithm", "ec-p256", stdin=json.dumps(card))
    kwbp("wallet", "enrol", "bench", stdin=json.dumps(card))
    done = subprocess.run(
        [
            *("python", "-m", "scripts.benchmarks.payments", "--shop", "bookshop", "--cards", "bench"),
            *("--wallet", demo.folder / "wallet", "--passphrase-file", demo.folder / "secrets" / "buyer"),
            *("--token-home", tmp_path / "tokens", "--seconds", "5", "--concurrency", "2"),
        ],
        env=demo.environment,
        input=json.dumps([card]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = {metric["name"]: metric["value"] for metric in map(json.loads, done.stdout.splitlines())}
    assert all(math.isfinite(value) and value > 0 for value in results.values())
    assert {f"{what}_ms_at_{load}" for what in ("p50", "p99") for load in (25, 50, 75, 90)} <= results.keys()
    assert results["ratio"] == pytest.approx(results["purchases_per_s"] / results["token_bound_per_s"], rel=0.01)
    signatures = {name: round(value) for name, value in results.items() if name.startswith("operations_sign_")}
    # Invoice, AuthReq, AuthAck and Receipt by the merchant's key; AuthRes by the gateway's, and a time-stamp over it.
    assert signatures == {
        "operations_sign_merchant": 4,
        "operations_sign_gateway": 1,
        "operations_sign_timestamp": 1,
    }
    assert round(results["operations_unwrap"]) == 1


def test_the_benchmark_of_the_time_stamp_authority_judges_what_it_is_given(demo: Demo, kwbp: Shell) -> None:
    done = subprocess.run(
        [
            *("python", "-m", "scripts.benchmarks.tsa", "--load", "0.5"),
            *("--seconds", "3", "--concurrency", "4", "--output", "json"),
        ],
        env=demo.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["name"] == "tsa"
    assert document["results"].keys() == {"timestamps_per_s", "timestamp_p50_ms", "timestamp_p99_ms"}
    assert all(value > 0 for value in document["results"].values())


# -- status, time and lists, asked for as strangers do


@pytest.fixture(scope="module")
def shop(kwbp: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    kwbp("ca", "export", "--out", str(folder / "all"), "--subject", "Bookshop", "--profile", "merchant-signing")
    return shop_in(folder)


def test_every_address_in_a_certificate_answers(shop: Shop) -> None:
    assert fetched(shop.issuers) == (200, shop.issuer.public_bytes(Encoding.DER))
    status, crl = fetched(shop.lists)
    assert status == 200
    key = shop.issuer.public_key()
    assert x509.load_der_x509_crl(crl).is_signature_valid(key)  # type: ignore[arg-type]
    assert fetched(shop.ocsp.removesuffix("/ocsp") + "/bci")[0] == 200


@pytest.mark.parametrize("options", [(), ("-no_nonce",), ("-sha256",), ("-sha256", "-no_nonce")])
def test_openssl_believes_the_responder(shop: Shop, options: tuple[str, ...]) -> None:
    folder = shop.folder
    said = run(
        "openssl", "ocsp", *options, "-url", shop.ocsp, "-issuer", folder / "issuer.pem", "-cert", folder / "leaf.pem",
        "-CAfile", folder / "root.pem", "-verify_other", folder / "cas.pem", "-resp_text",
    )  # fmt: skip
    assert b"Response verify OK" in said.stderr
    assert b"leaf.pem: good" in said.stdout
    assert b"Archive Cutoff" in said.stdout


def test_gnutls_believes_the_responder(shop: Shop) -> None:
    folder = shop.folder
    said = run(
        "ocsptool", f"--ask={shop.ocsp}", "--nonce", f"--load-cert={folder / 'leaf.pem'}",
        f"--load-issuer={folder / 'issuer.pem'}", f"--load-trust={folder / 'cas.pem'}",
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    assert b"Verifying OCSP Response: Success" in said.stdout


def test_nss_finds_the_chain_and_the_status_by_the_addresses_alone(shop: Shop) -> None:
    database = f"sql:{shop.folder}"
    assert run("certutil", "-N", "-d", database, "--empty-password").returncode == 0
    root = shop.folder / "root.pem"
    assert run("certutil", "-A", "-d", database, "-n", "root", "-t", "CT,C,C", "-i", root).returncode == 0
    (shop.folder / "leaf.der").write_bytes(shop.certificate.public_bytes(Encoding.DER))
    said = run(
        "vfychain", "-d", database, "-pp", "-u", "0", "-f", "-g", "leaf", "-m", "ocsp", "-s", "requireInfo",
        shop.folder / "leaf.der",
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("digest", ["-sha256", "-sha384", "-sha512"])
def test_openssl_believes_the_time_stamp(shop: Shop, digest: str) -> None:
    query, reply = shop.folder / "query.tsq", shop.folder / "reply.tsr"
    openssl("ts", "-query", "-data", shop.folder / "leaf.pem", digest, "-cert", "-out", query)
    status, answer = fetched(shop.tsa, query.read_bytes(), "application/timestamp-query")
    assert status == 200
    reply.write_bytes(answer)
    openssl("ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", shop.folder / "root.pem")


def test_ten_thousand_questions_at_once_are_refused_and_the_next_one_is_answered(shop: Shop) -> None:
    asked = ocsp.OCSPRequestBuilder().add_certificate(shop.certificate, shop.issuer, SHA256()).build()
    one = asked.public_bytes(Encoding.DER)
    entry = one[one.index(b"\x30", 6) :]
    body = entry * 10_000
    many = b"\x30\x83" + (len(body) + 10).to_bytes(3, "big") + b"\x30\x83" + (len(body) + 5).to_bytes(3, "big")
    many += b"\x30\x83" + len(body).to_bytes(3, "big") + body
    status, said = fetched(shop.ocsp, many, "application/ocsp-request")
    assert status == 413
    assert b"the body is over" in said
    status, answer = fetched(shop.ocsp, one, "application/ocsp-request")
    assert status == 200
    assert ocsp.load_der_ocsp_response(answer).certificate_status is ocsp.OCSPCertStatus.GOOD


@pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.1", bytes(2000)])
def test_garbage_is_refused_in_the_language_of_each_protocol(shop: Shop, garbage: bytes) -> None:
    status, said = fetched(shop.ocsp, garbage, "application/ocsp-request")
    assert (status, said) == (200, bytes.fromhex("30030a0101"))  # malformedRequest
    status, said = fetched(shop.tsa, garbage, "application/timestamp-query")
    assert status == 200
    assert b"not a TimeStampReq in DER" in said
