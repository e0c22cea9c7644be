"""The evidence bundle of one purchase: everything that proves it, in files that OpenSSL alone can judge.

root.pem                 the pinned root
chain/*.pem  crls/*.pem  CA certificates; the status lists in force at the time of the purchase
timestamp.tsr            RFC 3161: when auth-res.p7s existed; stamp-crls/*.pem: the status lists in force then
ocsp/*.der               what the responders said of the certificates, each file named after the certificate's
signers/*.pem            buyer, merchant, gateway, gateway-encryption
*.p7s                    the signed messages, as they were sent
pi-envelope.p7m          the sealed card data: only the gateway's token opens it
oi-data.der  order-details.der
purchase.txt             XID and time; digests.txt: SHA-256 of every file
verdict.json             what follows from it, in words for programs; on what time and status it rests, and its gaps
verify.sh                the judge: `sh` and `openssl`, nothing of ours
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import AuthCode
from kwbp.common import instant, read_signed
from kwbp.errors import ProtocolError
from kwbp.messages import AuthResTBS, DualSigTBS, InvoiceTBS, ReceiptTBS
from kwbp.parties import MerchantIdentity
from pki.der import sha256
from pki.oids import CT_AUTH_RES, CT_DUAL_SIGNATURE, CT_INVOICE, CT_RECEIPT
from pki.roles import role_of
from pki.timestamp import grant
from storefront.errors import EvidenceError
from storefront.evidence.proof import read_proof
from storefront.evidence.records import Records

_SIGNED: Final = ("invoice", "dual_signature", "auth_req", "auth_res", "auth_ack", "receipt")


def write_bundle(records: Records, root: x509.Certificate, out: Path) -> dict[str, Any]:
    """Write the bundle into the new folder `out`; returns the verdict. EvidenceError if `out` exists or a record is
    not what it should be (then nothing is written).
    """
    if out.exists():
        raise EvidenceError(f"{out} is already there")
    try:
        invoice = read_signed(InvoiceTBS, CT_INVOICE, records.invoice)
        order = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, records.dual_signature)
        answer = read_signed(AuthResTBS, CT_AUTH_RES, records.auth_res)
        receipt = read_signed(ReceiptTBS, CT_RECEIPT, records.receipt)
    except ProtocolError as error:
        raise EvidenceError(f"a record is not what it should be: {error}") from None
    gateway_encryption = x509.load_der_x509_certificate(records.gateway_certificate)
    signers = {
        "buyer": order.signer,
        "merchant": invoice.signer,
        "gateway": answer.signer,
        "gateway-encryption": gateway_encryption,
    }
    when = instant(answer.body.date)
    content: dict[str, bytes] = {"root.pem": _pem(root)}
    known = {
        certificate
        for message in (invoice, order, answer, receipt)
        for certificate in message.signed.certificates
        if certificate not in signers.values() and certificate != root
    }
    proof = read_proof(records, when)
    known |= {each for each in proof.certificates if each != root and role_of(each).profile.is_ca}
    for certificate in known:
        content[f"chain/{_chain_name(certificate)}.pem"] = _pem(certificate)
    for crl in _in_force(records.crls, when):
        name = sha256(crl.issuer.public_bytes()).hex()[:8]
        content[f"crls/{name}.pem"] = crl.public_bytes(Encoding.PEM)
    for name, certificate in signers.items():
        content[f"signers/{name}.pem"] = _pem(certificate)
    for name in _SIGNED:
        der = getattr(records, name)
        if der is not None:
            content[f"{name.replace('_', '-')}.p7s"] = der
    if records.time_stamp is not None and proof.stamped_at is not None:
        content["timestamp.tsr"] = grant(records.time_stamp)
        for crl in _in_force(records.crls, proof.stamped_at):
            content[f"stamp-crls/{sha256(crl.issuer.public_bytes()).hex()[:8]}.pem"] = crl.public_bytes(Encoding.PEM)
    names = {each: name for name, each in signers.items()} | {each: _chain_name(each) for each in known}
    for certificate, name in names.items():
        answer_about = proof.answer_about(certificate)
        if answer_about is not None:
            content[f"ocsp/{name}.der"] = answer_about
    content["pi-envelope.p7m"] = records.pi_envelope
    content["oi-data.der"] = records.oi_data
    content["order-details.der"] = records.order_details
    content["purchase.txt"] = f"{invoice.body.xid.hex()}\n{int(when.timestamp())}\n".encode()
    verdict = _verdict(invoice.body, answer.body, receipt.body, MerchantIdentity.of(invoice.signer), when)
    verdict |= proof.statement({name: each for each, name in names.items()}, root)
    content["verdict.json"] = (json.dumps(verdict, indent=2, ensure_ascii=False) + "\n").encode()
    digests = "".join(f"{sha256(data).hex()} {name}\n" for name, data in sorted(content.items()))
    content["digests.txt"] = digests.encode()
    _write(out, content)
    return verdict


def _chain_name(certificate: x509.Certificate) -> str:
    return f"{role_of(certificate).value}-{sha256(_der(certificate)).hex()[:8]}"


def _in_force(ders: Iterable[bytes], when: datetime) -> list[x509.CertificateRevocationList]:
    """Of each issuer the newest list that was out by then."""
    newest: dict[bytes, x509.CertificateRevocationList] = {}
    for der in ders:
        crl = x509.load_der_x509_crl(der)
        issuer = crl.issuer.public_bytes()
        if crl.last_update_utc <= when and (
            issuer not in newest or newest[issuer].last_update_utc < crl.last_update_utc
        ):
            newest[issuer] = crl
    return list(newest.values())


def _verdict(
    invoice: InvoiceTBS, answer: AuthResTBS, receipt: ReceiptTBS, merchant: MerchantIdentity, when: datetime
) -> dict[str, Any]:
    approved = answer.auth_code is AuthCode.APPROVED
    return {
        "xid": invoice.xid.hex(),
        "at": when.isoformat(),
        "amount": {"rial": invoice.amount.amount},
        "merchant": {"id": merchant.merchant_id, "name": merchant.name},
        "gateway": {"id": answer.gw_id, "acquirer": answer.acquirer_id},
        "outcome": answer.auth_code.protocol_name,
        "rrn": answer.rrn,
        "card": answer.masked_pan,
        "completion": receipt.completion_code.protocol_name,
        "bound": {
            "buyer": "ordered exactly this invoice, and this payment through this gateway (dual signature)",
            "merchant": "offered these goods at this price and promised delivery (invoice), and "
            + ("confirmed the payment (receipt)" if receipt.particulars_ok else "closed the order without payment"),
            "gateway": "answered for this very order: " + ("approved" if approved else answer.auth_code.protocol_name),
        },
    }


def _write(out: Path, content: dict[str, bytes]) -> None:
    temporary = out.with_name(out.name + ".new")
    if temporary.exists():
        shutil.rmtree(temporary)
    for name, data in content.items():
        path = temporary / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with as_file(files("storefront.evidence") / "verify.sh") as script:
        shutil.copyfile(script, temporary / "verify.sh")
    (temporary / "verify.sh").chmod(0o755)
    temporary.rename(out)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
