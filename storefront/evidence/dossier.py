"""A bundle's files, read: certificates, status lists, messages. Pure: bytes in, values out, nothing believed yet.

Two kinds of fault are kept apart. A bundle that is not in its form (a file that is not the one exported, a certificate
that is none) is refused as a whole: nothing can be said of it. A message that is not in form, or not signed by whom it
should be, is a finding about the purchase: everything else is judged all the same, and says what that fault means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.common import Received, read_signed
from kwbp.contract import DualLink, read_contract
from kwbp.errors import ProtocolError
from kwbp.inquiry import InqResTBS
from kwbp.messages import AuthAckTBS, AuthReqTBS, AuthResTBS, DualSigTBS, InvoiceTBS, OIData, OrderDetails, ReceiptTBS
from kwbp.receipt_ack import ReceiptAckTBS
from kwbp.structure import Structure, decode
from pki.crl import CrlSet
from pki.der import sha256
from pki.errors import UNREADABLE, PkiError
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_DUAL_SIGNATURE,
    CT_INQ_RES,
    CT_INVOICE,
    CT_RECEIPT,
    CT_RECEIPT_ACK,
)
from runtime.language import Message
from storefront.errors import BundleRefused
from storefront.evidence.folder import ENVELOPE, NEEDED, SCRIPT, WITH_ENVELOPE
from storefront.evidence.movements import Movement

T = TypeVar("T", bound=Structure)

_PURCHASE: Final = re.compile(rb"([0-9a-f]{40})\n([0-9]{1,11})\n")
_STATUS: Final = re.compile(rb"([0-9]{1,11})\n")
_DIGEST: Final = re.compile(r"([0-9a-f]{64}) ([A-Za-z0-9./-]{1,100})")
_CHAIN: Final = 16


@dataclass(slots=True)
class Exhibit(Generic[T]):
    """One signed message of a bundle: `received` if it is in form, `faults` why it is nobody's who may have signed it.

    It is authentic if there are none. Whether it fits the others is another question. It is `forged` if the bytes alone
    show that nobody of the role signed them: not in form, a signature that does not verify, or a signer whom the
    certificates inside do not lead to the root. What else a bundle leaves out or adds cannot make a message forged.
    """

    file: str
    der: bytes
    received: Received[T] | None
    faults: list[Message] = field(default_factory=list)
    forged: bool = False

    @property
    def authentic(self) -> bool:
        return self.received is not None and not self.faults

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, by which other messages name it."""
        return sha256(self.der)


@dataclass(frozen=True, slots=True)
class Joint:
    """The order with two signatures: two exhibits of one file, and what the buyer's half ties it to.

    `link` is None if the file is not in form; then neither half is read.
    """

    merchant: Exhibit[InvoiceTBS]
    buyer: Exhibit[InvoiceTBS]
    link: DualLink | None


@dataclass(frozen=True)
class Dossier:
    """Everything that a bundle holds. `when` is the moment of the purchase, `told_at` that of the gateway's status."""

    xid: bytes
    when: datetime
    told_at: datetime | None
    root: x509.Certificate
    chain: Mapping[str, x509.Certificate]
    signers: Mapping[str, x509.Certificate]
    crls: CrlSet
    stamp_crls: CrlSet
    status_crls: CrlSet
    ocsp: Mapping[str, bytes]
    time_stamp: bytes | None
    invoice: Exhibit[InvoiceTBS]
    order: Exhibit[DualSigTBS]
    contract: Joint | None
    request: Exhibit[AuthReqTBS] | None
    answer: Exhibit[AuthResTBS] | None
    acknowledgement: Exhibit[AuthAckTBS] | None
    receipt: Exhibit[ReceiptTBS] | None
    receipt_ack: Exhibit[ReceiptAckTBS] | None
    status: Exhibit[InqResTBS] | None
    movements: tuple[Movement, ...]
    """What moved the money later, in its order."""
    inner: Exhibit[AuthResTBS] | None
    """The gateway's answer as the receipt carries it."""
    envelope: bytes | None
    oi_data: bytes | None
    oi: OIData | None
    order_details: bytes | None
    details: OrderDetails | None

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Dossier:
        """Read the files of a bundle; raises BundleRefused if they are not the ones of one export, each in its form."""
        for name in sorted(NEEDED - files.keys()):
            raise BundleRefused(Message("{file} is missing", file=name))
        if ENVELOPE not in files and WITH_ENVELOPE & files.keys():
            raise BundleRefused(Message("{file} is missing", file=ENVELOPE))
        _check_digests(files)
        purchase = _PURCHASE.fullmatch(files["purchase.txt"])
        if purchase is None:
            raise _not_in_form("purchase.txt")
        told_at = None
        if ("status.txt" in files) != ("gateway-status.p7s" in files):
            raise BundleRefused(Message("{file} is missing", file="status.txt, gateway-status.p7s"))
        if "receipt-ack.p7s" in files and "receipt.p7s" not in files:
            raise BundleRefused(Message("{file} is missing", file="receipt.p7s"))
        if "status.txt" in files:
            told = _STATUS.fullmatch(files["status.txt"])
            if told is None:
                raise _not_in_form("status.txt")
            told_at = datetime.fromtimestamp(int(told[1]), UTC)
        chain = {name: _certificate(files, name) for name in _inside(files, "chain/")}
        if len(chain) > _CHAIN:
            raise BundleRefused(Message("there are more than {count} files", count=_CHAIN))
        receipt = _exhibit(ReceiptTBS, CT_RECEIPT, files, "receipt.p7s")
        inner = None
        if receipt is not None and receipt.received is not None:
            carried = receipt.received.body.auth_res
            inner = Exhibit("receipt.p7s", carried, *_read(AuthResTBS, CT_AUTH_RES, carried))
        names = [_stem(name) for folder in ("signers/", "chain/") for name in _inside(files, folder)]
        answers = {_stem(name): files[name] for name in _inside(files, "ocsp/")}
        if len(set(names)) < len(names) or not answers.keys() <= set(names):
            raise BundleRefused(Message("a name in {folder} is of no certificate, or of two", folder="chain, ocsp"))
        oi_data, order_details = files.get("oi-data.der"), files.get("order-details.der")
        return cls(
            xid=bytes.fromhex(purchase[1].decode()),
            when=datetime.fromtimestamp(int(purchase[2]), UTC),
            told_at=told_at,
            root=_certificate(files, "root.pem"),
            chain={_stem(name): each for name, each in chain.items()},
            signers={_stem(name): _certificate(files, name) for name in _inside(files, "signers/")},
            crls=_lists(files, "crls/"),
            stamp_crls=_lists(files, "stamp-crls/"),
            status_crls=_lists(files, "status-crls/"),
            ocsp=answers,
            time_stamp=files.get("timestamp.tsr"),
            invoice=_needed(InvoiceTBS, CT_INVOICE, files, "invoice.p7s"),
            order=_needed(DualSigTBS, CT_DUAL_SIGNATURE, files, "dual-signature.p7s"),
            contract=_joint(files, "contract.p7s"),
            request=_exhibit(AuthReqTBS, CT_AUTH_REQ, files, "auth-req.p7s"),
            answer=_exhibit(AuthResTBS, CT_AUTH_RES, files, "auth-res.p7s"),
            acknowledgement=_exhibit(AuthAckTBS, CT_AUTH_ACK, files, "auth-ack.p7s"),
            receipt=receipt,
            receipt_ack=_exhibit(ReceiptAckTBS, CT_RECEIPT_ACK, files, "receipt-ack.p7s"),
            status=_exhibit(InqResTBS, CT_INQ_RES, files, "gateway-status.p7s"),
            movements=_movements(files),
            inner=inner,
            envelope=files.get(ENVELOPE),
            oi_data=oi_data,
            oi=None if oi_data is None else _structure(OIData, oi_data),
            order_details=order_details,
            details=None if order_details is None else _structure(OrderDetails, order_details),
        )

    @property
    def exhibits(self) -> tuple[Exhibit[Any], ...]:
        """Every signed message that is there, in the order of the purchase."""
        every: tuple[Exhibit[Any] | None, ...] = (
            self.invoice,
            self.order,
            *(() if self.contract is None else (self.contract.merchant, self.contract.buyer)),
            self.request,
            self.answer,
            self.acknowledgement,
            self.receipt,
            self.receipt_ack,
            self.status,
        )
        return tuple(each for each in every if each is not None)


def _check_digests(files: Mapping[str, bytes]) -> None:
    try:
        lines = files["digests.txt"].decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise _not_in_form("digests.txt") from None
    stated: dict[str, str] = {}
    for line in lines:
        match = _DIGEST.fullmatch(line)
        if match is None or match[2] in stated:
            raise _not_in_form("digests.txt")
        stated[match[2]] = match[1]
    there = files.keys() - {"digests.txt", SCRIPT}
    for name in sorted(stated.keys() - there):
        raise BundleRefused(Message("{file} is missing", file=name))
    for name in sorted(there - stated.keys()):
        raise BundleRefused(Message("{file} was not exported with the others", file=name))
    for name in sorted(there):
        if sha256(files[name]).hex() != stated[name]:
            raise BundleRefused(Message("{file} is not the file that was exported", file=name))


def _not_in_form(file: str) -> BundleRefused:
    return BundleRefused(Message("{file} is not in its form", file=file))


def _inside(files: Mapping[str, bytes], folder: str) -> list[str]:
    return sorted(name for name in files if name.startswith(folder))


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _certificate(files: Mapping[str, bytes], name: str) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(files[name])
        same = found.public_bytes(Encoding.PEM) == files[name]
    except UNREADABLE:
        raise _not_in_form(name) from None
    if not same:  # one certificate, and nothing around it that another reader would take
        raise _not_in_form(name)
    return found


def _lists(files: Mapping[str, bytes], folder: str, *, ending: str = "") -> CrlSet:
    found = []
    for name in (each for each in _inside(files, folder) if each.endswith(ending)):
        try:
            crl = x509.load_pem_x509_crl(files[name])
            same = crl.public_bytes(Encoding.PEM) == files[name]
            CrlSet([crl])
        except (PkiError, *UNREADABLE):
            raise _not_in_form(name) from None
        if not same:
            raise _not_in_form(name)
        found.append(crl)
    return CrlSet(found)


def _structure(cls: type[T], data: bytes) -> T | None:
    try:
        return decode(cls, data)
    except ProtocolError:
        return None


def _read(cls: type[T], content_type: x509.ObjectIdentifier, der: bytes) -> tuple[Received[T] | None, list[Message]]:
    try:
        return read_signed(cls, content_type, der), []
    except ProtocolError:
        return None, [Message("it is no message of its kind in DER")]


def _movements(files: Mapping[str, bytes]) -> tuple[Movement, ...]:
    folders = sorted({name.partition("/")[0] for name in files if name.startswith("money-")})
    if folders != [f"money-{number:02}" for number in range(1, len(folders) + 1)]:
        raise BundleRefused(Message("{file} is missing", file=f"money-{len(folders):02}"))
    found = []
    for folder in folders:
        for name in ("request.p7s", "answer.p7s", "time.txt"):
            if f"{folder}/{name}" not in files:
                raise BundleRefused(Message("{file} is missing", file=f"{folder}/{name}"))
        request, answer, time = (files[f"{folder}/{name}"] for name in ("request.p7s", "answer.p7s", "time.txt"))
        movement = Movement.of(folder, request, answer, time, _lists(files, f"{folder}/", ending=".pem"))
        if movement is None:
            raise _not_in_form(f"{folder}/time.txt")
        found.append(movement)
    return tuple(found)


def _joint(files: Mapping[str, bytes], name: str) -> Joint | None:
    if name not in files:
        return None
    der = files[name]
    try:
        read = read_contract(der)
    except ProtocolError:
        fault = Message("it is no order with two signatures in DER")
        return Joint(Exhibit(name, der, None, [fault]), Exhibit(name, der, None, [fault]), None)
    return Joint(Exhibit(name, der, read.merchant), Exhibit(name, der, read.buyer), read.link)


def _needed(cls: type[T], content_type: x509.ObjectIdentifier, files: Mapping[str, bytes], name: str) -> Exhibit[T]:
    return Exhibit(name, files[name], *_read(cls, content_type, files[name]))


def _exhibit(
    cls: type[T], content_type: x509.ObjectIdentifier, files: Mapping[str, bytes], name: str
) -> Exhibit[T] | None:
    return _needed(cls, content_type, files, name) if name in files else None
