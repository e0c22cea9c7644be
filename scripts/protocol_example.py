"""The worked example of the specification: one honest purchase in bytes, written once into `docs/protocol/examples`.

Signatures and sealing are randomised, so another run gives other bytes: the files are kept, and
`tests/kwbp/test_example.py` has our checks and OpenSSL verify them at the time that they were made. The dumps beside
them follow from the bytes alone, and are written anew with the names of `oids.txt`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from kwbp.contract import message_of
from pki.der import sha256
from tests.kwbp.test_contract import contract
from tests.kwbp.test_receipt_ack import acknowledged
from tests.kwbp.world import EXPIRY, ORIGIN, PAN, Purchase, World
from tests.support.pki_factory import PkiFactory

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "protocol"
EXAMPLES: Final = FOLDER / "examples"


def objects(world: World, purchase: Purchase) -> dict[str, bytes]:
    """Every object of the purchase, in the order in which it comes to be; `.kwbp`: as it is sent."""
    handed = contract(world, purchase)
    return {
        "01-invoice-req.kwbp": purchase.request.message(purchase.request_signed),
        "02-order-details.der": purchase.invoice.order_details,
        "02-invoice-tbs.der": purchase.invoice.invoice.content,
        "02-invoice.p7s": purchase.invoice_signed,
        "02-invoice.kwbp": purchase.invoice_message,
        "03-oi-data.der": purchase.order.oi_data,
        "03-pi-sealed.der": purchase.plaintext,
        "03-pi-envelope.p7m": purchase.order.pi_envelope,
        "03-dual-sig-tbs.der": purchase.order.dual_signature.content,
        "03-dual-sig.p7s": purchase.dual_signed,
        "03-preq.kwbp": purchase.preq_message,
        "04-auth-req.p7s": purchase.auth_req_signed,
        "04-auth-req.kwbp": purchase.auth_req_message,
        "05-auth-res-tbs.der": purchase.auth_res.content,
        "05-auth-res.p7s": purchase.auth_res_signed,
        "05-auth-res.kwbp": purchase.auth_res.message(purchase.auth_res_signed),
        "06-auth-ack.p7s": purchase.auth_ack_signed,
        "06-auth-ack.kwbp": purchase.auth_ack.message(purchase.auth_ack_signed),
        "07-receipt.p7s": purchase.receipt_signed,
        "07-receipt.kwbp": purchase.receipt.message(purchase.receipt_signed),
        "08-receipt-ack.kwbp": acknowledged(world, purchase),
        "09-contract.p7s": handed,
        "09-contract.kwbp": message_of(handed),
    }


def facts(world: World, purchase: Purchase) -> dict[str, object]:
    """What no file says by itself: time, origin, card, secrets; and each hash of the dual signature."""
    dual = purchase.order.dual_signature.body
    return {
        "time": int(world.now.timestamp()),
        "origin": ORIGIN,
        "card": {"pan": PAN, "expiry": EXPIRY, "pin2": "12345", "cvv2": "321"},
        "cardSecret": world.card_secret.hex(),
        "panSecret": world.pan_secret.hex(),
        "hod": sha256(purchase.invoice.order_details).hex(),
        "invoiceHash": dual.invoice_hash.hex(),
        "hOIData": dual.h_oi_data.hex(),
        "hPIData": dual.h_pi_data.hex(),
        "hPIEnvelope": dual.h_pi_envelope.hex(),
        "merCertHash": dual.mer_cert_hash.hex(),
        "gwCertHash": dual.gw_cert_hash.hex(),
    }


def dump(der: bytes) -> str:
    """What `openssl asn1parse` shows of an object, our identifiers by name; long values cut."""
    command = ["openssl", "asn1parse", "-inform", "DER", "-i", "-oid", str(FOLDER / "oids.txt")]
    shown = subprocess.run(command, input=der, capture_output=True, check=True).stdout.decode()
    lines = [line if len(line) <= 200 else f"{line[:200]}…" for line in shown.splitlines()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the example anew: another purchase, other bytes."""
    world = World(PkiFactory())
    purchase = world.purchase()
    for name, der in objects(world, purchase).items():
        (EXAMPLES / name).write_bytes(der)
    (EXAMPLES / "example.json").write_text(json.dumps(facts(world, purchase), indent=1) + "\n", "utf-8")
    world.pki.write(EXAMPLES)
    keys = EXAMPLES / "keys"
    keys.mkdir(exist_ok=True)
    for name, credential in (
        ("buyer", world.buyer),
        ("merchant", world.shop),
        ("gateway-signing", world.gateway_signing),
        ("gateway-encryption", world.gateway_encryption),
    ):
        credential.write(keys, name)
    write_dumps()


def write_dumps() -> None:
    """The dumps of what is there."""
    for path in sorted(EXAMPLES.glob("0*")):
        if path.suffix in {".der", ".p7s", ".p7m", ".kwbp"}:
            (EXAMPLES / "dumps" / f"{path.name}.txt").parent.mkdir(exist_ok=True)
            (EXAMPLES / "dumps" / f"{path.name}.txt").write_text(dump(path.read_bytes()), "utf-8")


if __name__ == "__main__":
    main()
