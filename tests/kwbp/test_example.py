"""The worked example of the specification is a purchase: our checks and OpenSSL accept it, at the time it was made."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kwbp import gateway, merchant, wallet
from kwbp.commitment import commitment_cn
from kwbp.common import Received, instant, read_signed
from kwbp.contract import take_contract
from kwbp.messages import DualSigTBS, InvoiceReqTBS, InvoiceTBS, OIData
from kwbp.parties import GatewayIdentity
from kwbp.receipt_ack import SentReceipt, check_receipt_ack
from kwbp.structure import decode
from kwbp.wrapper import unwrap
from pki import oids
from pki.crl import CrlSet
from pki.der import sha256
from pki.path import Trust
from scripts.protocol_example import EXAMPLES, dump
from shetab.types import Expiry, Pan
from tests.kwbp.world import BIN, BRAND
from tests.support.judges import attime, openssl
from tests.support.pki_factory import unseal

KEYS = EXAMPLES / "keys"
FACTS: dict[str, Any] = json.loads((EXAMPLES / "example.json").read_text("utf-8"))
NOW = datetime.fromtimestamp(FACTS["time"], UTC)


def read(name: str) -> bytes:
    return (EXAMPLES / name).read_bytes()


def certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


@pytest.fixture(scope="module")
def trust() -> Trust:
    lists = [
        x509.load_pem_x509_crl(b"-----BEGIN" + part) for part in read("crls.pem").split(b"-----BEGIN") if part.strip()
    ]
    return Trust(tuple(certificates(EXAMPLES / "root.pem")), tuple(certificates(EXAMPLES / "cas.pem")), CrlSet(lists))


def dual() -> Received[DualSigTBS]:
    return read_signed(DualSigTBS, oids.CT_DUAL_SIGNATURE, read("03-dual-sig.p7s"))


def test_every_party_accepts_what_it_gets(trust: Trust) -> None:
    request = merchant.check_invoice_request(
        unwrap(read("01-invoice-req.kwbp"), expected=[oids.CT_INVOICE_REQ]),
        brands={BRAND},
        accepts_bin=lambda prefix: prefix == BIN,
        trust=trust,
        now=NOW,
    )
    asked = read_signed(InvoiceReqTBS, oids.CT_INVOICE_REQ, request.signed).body
    invoice = wallet.check_invoice(
        unwrap(read("02-invoice.kwbp"), expected=[oids.MT_INVOICE]),
        request=asked,
        origin=FACTS["origin"],
        trust=trust,
        now=NOW,
    )
    named = GatewayIdentity.of(certificates(KEYS / "gateway-encryption.pem")[0])
    issued = merchant.IssuedInvoice.load(read("02-invoice.p7s"), request.signed, named)
    received = merchant.receive_purchase(unwrap(read("03-preq.kwbp"), expected=[oids.MT_PREQ]))
    purchase = merchant.check_purchase(received, issued=issued, trust=trust, now=NOW)
    order = gateway.receive_auth_req(unwrap(read("04-auth-req.kwbp"), expected=[oids.CT_AUTH_REQ]))
    enrolled = gateway.EnrolledMerchant("M-1", frozenset({"T0000001"}), active=True)
    gateway.check_sender(order, enrolled, tls_merchant_id="M-1")
    verified = gateway.check_auth_req(order, gateway=named, trust=trust, now=NOW)
    key = load_pem_private_key((KEYS / "gateway-encryption.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    plaintext = unseal(verified.envelope.der, key)
    assert plaintext == read("03-pi-sealed.der")
    card = gateway.check_opened(plaintext, verified, accepts_bin=lambda prefix: prefix == BIN, now=NOW)
    assert card.pan.reveal() == FACTS["card"]["pan"]
    answer = merchant.check_auth_res(
        unwrap(read("05-auth-res.kwbp"), expected=[oids.CT_AUTH_RES]),
        sent=merchant.SentAuthReq.load(read("04-auth-req.p7s")),
        trust=trust,
        now=NOW,
    )
    assert answer.approved
    gateway.check_auth_ack(
        unwrap(read("06-auth-ack.kwbp"), expected=[oids.CT_AUTH_ACK]),
        sent=gateway.SentAuthRes.load(read("05-auth-res.p7s")),
        trust=trust,
        now=NOW,
    )
    receipt = wallet.check_receipt(
        unwrap(read("07-receipt.kwbp"), expected=[oids.CT_RECEIPT]), purchase=record(), trust=trust, now=NOW
    )
    assert receipt.paid
    check_receipt_ack(
        unwrap(read("08-receipt-ack.kwbp"), expected=[oids.CT_RECEIPT_ACK]),
        sent=SentReceipt.load(read("07-receipt.p7s"), "M-1"),
        card=purchase.card_certificate,
        trust=trust,
        now=NOW,
    )
    message = unwrap(read("09-contract.kwbp"), expected=[oids.MT_CONTRACT])
    taken = take_contract(message, invoice=invoice.invoice, dual=dual(), trust=trust, now=NOW)
    assert taken.buyer == purchase.card_certificate


def record() -> wallet.PurchaseRecord:
    """What the wallet would have kept, from the files alone."""
    oi = decode(OIData, read("03-oi-data.der"))
    invoice = read_signed(InvoiceTBS, oids.CT_INVOICE, read("02-invoice.p7s")).body
    return wallet.PurchaseRecord(
        rrpid=oi.rrpid,
        xid=oi.xid,
        chall_c=oi.chall_c,
        h_oi_data=sha256(read("03-oi-data.der")),
        h_dual_sig=sha256(read("03-dual-sig.p7s")),
        amount=oi.amount,
        merchant_id=invoice.merchant_id,
        mer_cert_hash=invoice.mer_cert_hash,
        gw_id=invoice.gw_id,
        acquirer_bin=invoice.acquirer_bin,
        ordered_at=instant(oi.date),
    )


def test_the_hashes_are_those_that_the_specification_says() -> None:
    body = dual().body
    sealed = read("03-pi-sealed.der")
    assert FACTS["hOIData"] == sha256(read("03-oi-data.der")).hex() == body.h_oi_data.hex()
    assert FACTS["hPIEnvelope"] == sha256(read("03-pi-envelope.p7m")).hex() == body.h_pi_envelope.hex()
    assert FACTS["invoiceHash"] == sha256(read("02-invoice.p7s")).hex() == body.invoice_hash.hex()
    assert FACTS["hod"] == sha256(read("02-order-details.der")).hex()
    # PIData is PISealed without its last member, hOIData: 34 bytes.
    assert sealed[:2] == b"\x30\x82"
    inside = sealed[4:-34]
    assert (
        FACTS["hPIData"] == sha256(b"\x30\x82" + len(inside).to_bytes(2, "big") + inside).hex() == body.h_pi_data.hex()
    )
    card = FACTS["card"]
    secret = bytes.fromhex(FACTS["panSecret"])
    commitment = commitment_cn(secret, Pan(card["pan"]), Expiry(card["expiry"]))
    names = dual().signer.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert [each.value for each in names] == [commitment]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("0*.p7s")), ids=lambda path: path.name)
def test_openssl_verifies_every_signed_object(path: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.pem").write_bytes(read("root.pem") + read("crls.pem"))
    openssl(
        "cms", "-verify", "-binary", "-inform", "DER", "-in", path, *attime(NOW), "-crl_check_all", "-purpose", "any",
        "-CAfile", tmp_path / "trust.pem", "-out", tmp_path / "content.der",
    )  # fmt: skip
    content = path.with_name(path.name.replace(".p7s", "-tbs.der"))
    if content.exists():
        assert (tmp_path / "content.der").read_bytes() == content.read_bytes()


def test_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    """As they stand there, in a copy of the folder, by the shell."""
    text = (EXAMPLES / "README.md").read_text("utf-8")
    script = text.split("```sh\n")[1].split("```")[0]
    (tmp_path / "examples").mkdir()
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and "dumps" not in path.parts:
            target = tmp_path / "examples" / path.relative_to(EXAMPLES)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / "oids.txt").write_bytes((EXAMPLES.parent / "oids.txt").read_bytes())
    done = subprocess.run(
        ["sh", "-eu"], input=script, text=True, cwd=tmp_path / "examples", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert FACTS["hOIData"] in done.stdout
    assert "id-kwbp-ct-authReq" in done.stdout


def test_the_dumps_are_of_these_bytes() -> None:
    shown = sorted((EXAMPLES / "dumps").glob("*.txt"))
    assert [path.name.removesuffix(".txt") for path in shown] == sorted(
        path.name for path in EXAMPLES.glob("0*") if path.is_file()
    )
    for path in shown:
        der = read(path.name.removesuffix(".txt"))
        assert path.read_text("utf-8") == dump(der), f"{path.name}: run scripts.protocol_example.write_dumps"
