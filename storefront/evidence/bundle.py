"""The evidence bundle of one purchase: everything that proves it, in files that OpenSSL alone can judge.

root.pem                 the pinned root
chain/*.pem  crls/*.pem  CA certificates; the status lists in force at the time of the purchase
timestamp.tsr            RFC 3161: when auth-res.p7s existed; stamp-crls/*.pem: the status lists in force then
ocsp/*.der               what the responders said of the certificates, each file named after the certificate's
signers/*.pem            buyer, merchant, gateway, gateway-encryption, gateway-status
*.p7s                    the signed messages, as they were sent; contract.p7s: the invoice with both signatures
pi-envelope.p7m          the sealed card data: only the gateway's token opens it
oi-data.der  order-details.der
status.txt               when the gateway said what gateway-status.p7s holds; status-crls/*.pem: the lists in force then
money-01/ …              what moved the money later, a pair each: request, answer, its time, the lists in force then
purchase.txt             XID and time; digests.txt: SHA-256 of every file
verdict.json             what follows from it, in words for programs; on what time and status it rests, and its gaps
verify.sh                a judge: `sh` and `openssl`, nothing of ours; the other one is `storefront.evidence.judgement`

Only the root, the chain, the lists and what was signed by then are always there; what a party does not have is absent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.common import Received, instant, read_signed
from kwbp.contract import read_contract
from kwbp.errors import ProtocolError
from kwbp.inquiry import InqResTBS
from kwbp.messages import AuthResTBS, DualSigTBS, InvoiceTBS, OIData, ReceiptTBS
from kwbp.parties import MerchantIdentity
from kwbp.settling import SettlingResTBS
from kwbp.structure import decode
from pki.der import sha256
from pki.oids import CT_AUTH_RES, CT_DUAL_SIGNATURE, CT_INQ_RES, CT_INVOICE, CT_RECEIPT
from pki.roles import role_of
from pki.timestamp import grant
from runtime.language import Message
from storefront.errors import EvidenceError
from storefront.evidence.movements import MOST, read_pair
from storefront.evidence.proof import read_proof
from storefront.evidence.records import Records

_SIGNED: Final = (
    "invoice", "dual_signature", "contract", "auth_req", "auth_res", "auth_ack", "receipt", "receipt_ack",
    "gateway_status",
)  # fmt: skip
_UNSIGNED: Final = {
    "pi_envelope": "pi-envelope.p7m",
    "oi_data": "oi-data.der",
    "order_details": "order-details.der",
}


def write_bundle(records: Records, root: x509.Certificate, out: Path) -> dict[str, Any]:
    """Write the bundle into the new folder `out`; returns the verdict. EvidenceError if `out` exists or a record is
    not what it should be (then nothing is written).
    """
    if out.exists():
        raise EvidenceError(Message("{folder} is already there", folder=out))
    try:
        found = _read(records)
        merchant = MerchantIdentity.of(found.invoice.signer)
        gateway_encryption = x509.load_der_x509_certificate(records.gateway_certificate)
        authorities = {x509.load_der_x509_certificate(der) for der in records.authorities}
    except (ProtocolError, ValueError) as error:
        raise EvidenceError(Message("a record is not what it should be: {error}", error=str(error))) from None
    signers = {
        "buyer": found.order.signer,
        "merchant": found.invoice.signer,
        "gateway-encryption": gateway_encryption,
    }
    if found.answer is not None:
        signers["gateway"] = found.answer.signer
    content: dict[str, bytes] = {"root.pem": _pem(root)}
    proof = read_proof(records, found.when)
    above = (
        {each for message in found.messages for each in message.signed.certificates}
        | _of_contract(records.contract)
        | proof.certificates
        | authorities
    )
    known = {each for each in above if each != root and role_of(each).profile.is_ca}
    for certificate in known:
        content[f"chain/{_chain_name(certificate)}.pem"] = _pem(certificate)
    content |= _lists("crls", records.crls, found.when)
    for name in _SIGNED:
        der = getattr(records, name)
        if der is not None and (name != "receipt_ack" or records.receipt is not None):
            content[f"{name.replace('_', '-')}.p7s"] = der
    for name, file in _UNSIGNED.items():
        der = getattr(records, name)
        if der is not None:
            content[file] = der
    if records.time_stamp is not None and proof.stamped_at is not None:
        content["timestamp.tsr"] = grant(records.time_stamp)
        content |= _lists("stamp-crls", records.crls, proof.stamped_at)
    names = {each: name for name, each in signers.items()} | {each: _chain_name(each) for each in known}
    for certificate, name in names.items():
        answer_about = proof.answer_about(certificate)
        if answer_about is not None:
            content[f"ocsp/{name}.der"] = answer_about
    if found.status is not None:
        signers["gateway-status"] = found.status.signer
        told_at = instant(found.status.body.date)
        content["status.txt"] = f"{int(told_at.timestamp())}\n".encode()
        content |= _lists("status-crls", records.crls, told_at)
    content |= _money(records, found)
    for name, certificate in signers.items():
        content[f"signers/{name}.pem"] = _pem(certificate)
    content["purchase.txt"] = f"{found.invoice.body.xid.hex()}\n{int(found.when.timestamp())}\n".encode()
    verdict = _verdict(found, merchant) | proof.statement({name: each for each, name in names.items()}, root)
    content["verdict.json"] = (json.dumps(verdict, indent=2, ensure_ascii=False) + "\n").encode()
    digests = "".join(f"{sha256(data).hex()} {name}\n" for name, data in sorted(content.items()))
    content["digests.txt"] = digests.encode()
    _write(out, content)
    return verdict


@dataclass(frozen=True, slots=True)
class _Found:
    """The signed records, read; nothing is verified."""

    invoice: Received[InvoiceTBS]
    order: Received[DualSigTBS]
    answer: Received[AuthResTBS] | None
    receipt: Received[ReceiptTBS] | None
    status: Received[InqResTBS] | None
    movements: tuple[tuple[Received[Any], Received[SettlingResTBS]], ...]
    when: datetime

    @property
    def messages(self) -> list[Received[Any]]:
        every: tuple[Received[Any] | None, ...] = (self.invoice, self.order, self.answer, self.receipt, self.status)
        return [*(each for each in every if each is not None), *(each for pair in self.movements for each in pair)]


def _read(records: Records) -> _Found:
    answer = None if records.auth_res is None else read_signed(AuthResTBS, CT_AUTH_RES, records.auth_res)
    if answer is not None:
        when = instant(answer.body.date)
    elif records.oi_data is not None:
        when = instant(decode(OIData, records.oi_data).date)
    else:
        raise EvidenceError(
            Message("neither the gateway's answer nor the order information is here: nothing says when it was")
        )
    return _Found(
        invoice=read_signed(InvoiceTBS, CT_INVOICE, records.invoice),
        order=read_signed(DualSigTBS, CT_DUAL_SIGNATURE, records.dual_signature),
        answer=answer,
        receipt=None if records.receipt is None else read_signed(ReceiptTBS, CT_RECEIPT, records.receipt),
        status=None if records.gateway_status is None else read_signed(InqResTBS, CT_INQ_RES, records.gateway_status),
        movements=_movements(records),
        when=when,
    )


def _movements(records: Records) -> tuple[tuple[Received[Any], Received[SettlingResTBS]], ...]:
    pairs = [read_pair(request, answer) for request, answer in records.movements]
    if None in pairs or len(pairs) > MOST:
        raise EvidenceError(
            Message("what moved the money is not in form, or there is more than {count} of it", count=MOST)
        )
    return tuple(pair for pair in pairs if pair is not None)


def _of_contract(der: bytes | None) -> set[x509.Certificate]:
    """The certificates in the order with two signatures; none in one that is none, which the judges will say."""
    try:
        return set() if der is None else set(read_contract(der).buyer.signed.certificates)
    except ProtocolError:
        return set()


def _money(records: Records, found: _Found) -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    for number, ((request, answer), (_, read)) in enumerate(zip(records.movements, found.movements, strict=True), 1):
        folder, at = f"money-{number:02}", instant(read.body.date)
        content[f"{folder}/request.p7s"], content[f"{folder}/answer.p7s"] = request, answer
        content[f"{folder}/time.txt"] = f"{int(at.timestamp())}\n".encode()
        content |= _lists(folder, records.crls, at)
    return content


def _lists(folder: str, ders: Iterable[bytes], when: datetime) -> dict[str, bytes]:
    return {
        f"{folder}/{sha256(crl.issuer.public_bytes()).hex()[:8]}.pem": crl.public_bytes(Encoding.PEM)
        for crl in _in_force(ders, when)
    }


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


def _verdict(found: _Found, merchant: MerchantIdentity) -> dict[str, Any]:
    invoice = found.invoice.body
    verdict: dict[str, Any] = {
        "xid": invoice.xid.hex(),
        "at": found.when.isoformat(),
        "amount": {"rial": invoice.amount.amount},
        "merchant": {"id": merchant.merchant_id, "name": merchant.name},
        "gateway": {"id": invoice.gw_id, "acquirer": invoice.acquirer_bin},
        "outcome": "open",
        "bound": {
            "buyer": "ordered exactly this invoice, and this payment through this gateway (dual signature)",
            "merchant": "offered these goods at this price and promised delivery (invoice)",
        },
    }
    if found.answer is not None:
        answer = found.answer.body
        outcome = answer.auth_code.protocol_name
        verdict |= {"outcome": outcome, "rrn": answer.rrn, "card": answer.masked_pan}
        verdict["bound"]["gateway"] = f"answered for this very order: {outcome}"
    if found.receipt is not None:
        receipt = found.receipt.body
        verdict["completion"] = receipt.completion_code.protocol_name
        ending = "confirmed the payment (receipt)" if receipt.particulars_ok else "closed the order without payment"
        verdict["bound"]["merchant"] += f", and {ending}"
    if found.status is not None:
        verdict["later"] = found.status.body.status.protocol_name
    return verdict


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
