"""The order as one file with two signatures (دستوري با دو امضا): what the evidence of a purchase can show whole.

On the wire the merchant's invoice and the buyer's dual signature are two objects. Here both sign one content, the
invoice: the merchant as it did, the buyer with one more signed attribute, the dual link, which ties the invoice to the
very order and the very sealed payment instruction. `openssl cms -verify` accepts it if both signatures are good. It
takes no part in a purchase: whoever has the dual signature has all that is said here.

The wallet makes it when it signs the order, keeps it, and hands it to the merchant once it has the receipt
(`message_of`, `take_contract`), as it does with ReceiptAck: nothing hangs on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from kwbp.codes import ErrorCode
from kwbp.common import Received, check_not_future, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.fields import Hash32
from kwbp.messages import DualSigTBS, InvoiceTBS
from kwbp.parties import MerchantIdentity
from kwbp.structure import SIZE_LIMIT, Structure, decode, encode
from kwbp.wrapper import KwbpMessage, check_header, wrap
from pki.cms_joined import join, parse_joined
from pki.errors import CmsError
from pki.oids import AA_DUAL_LINK, CT_INVOICE, MT_CONTRACT
from pki.path import Trust
from pki.roles import Role

_NOT_READ: Final = {"too_big": ErrorCode.MESSAGE_TOO_BIG, "wrong_content_type": ErrorCode.MESSAGE_NOT_SUPPORTED}


@asn1.sequence
class DualLink(Structure):
    """id-kwbp-aa-dualLink, signed attribute of the buyer: which order and which sealed instruction the invoice is for.

    The three hashes are those of DualSigTBS.
    """

    h_pi_data: Hash32
    h_oi_data: Hash32
    h_pi_envelope: Hash32

    def validate(self) -> None:
        """Nothing beyond the types."""

    @classmethod
    def of(cls, dual: DualSigTBS) -> DualLink:
        """What a dual signature says of its order."""
        return cls(h_pi_data=dual.h_pi_data, h_oi_data=dual.h_oi_data, h_pi_envelope=dual.h_pi_envelope)

    @property
    def attribute(self) -> tuple[x509.ObjectIdentifier, bytes]:
        """What the buyer signs beside the four attributes of the profile, over the content DER InvoiceTBS."""
        return AA_DUAL_LINK, encode(self)


def build_contract(invoice: bytes, buyer: bytes) -> bytes:
    """The contract (DER ContentInfo) of two SignedData over one InvoiceTBS: the merchant's, and the buyer's.

    :raises ValueError: they are over different contents. :raises CmsError: one of them cannot be read.
    """
    return join(invoice, buyer)


@dataclass(frozen=True, slots=True)
class ReadContract:
    """A contract in form; no signature is verified yet. Both halves have the content and the bytes of the whole."""

    merchant: Received[InvoiceTBS]
    buyer: Received[InvoiceTBS]
    link: DualLink


def read_contract(der: bytes) -> ReadContract:
    """K1 and K4: ContentInfo with SignedData over InvoiceTBS by exactly two signers; nothing else passes.

    :raises ProtocolError: messageTooBig, decodingFailure (K1); decodingFailure, messageNotSupported (K4).
    """
    require(len(der) <= SIZE_LIMIT, ErrorCode.MESSAGE_TOO_BIG, "K1", f"must have at most {SIZE_LIMIT} bytes")
    try:
        joined = parse_joined(der, content_type=CT_INVOICE, mark=AA_DUAL_LINK)
    except CmsError as error:
        code = _NOT_READ.get(error.reason, ErrorCode.DECODING_FAILURE)
        raise ProtocolError(code, "K4", f"must be SignedData with two signers ({error.reason})") from None
    invoice = decode(InvoiceTBS, joined.first.content)
    assert joined.second.further is not None  # the second signer is the one that has it
    link = decode(DualLink, joined.second.further)
    return ReadContract(Received(invoice, joined.first), Received(invoice, joined.second), link)


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that both sides signed. `digest` is SHA-256 of the whole."""

    invoice: InvoiceTBS
    merchant: MerchantIdentity
    buyer: x509.Certificate
    link: DualLink
    digest: bytes


def check_contract(der: bytes, *, trust: Trust, now: datetime) -> Contract:
    """K1, K4 to K7 on both signatures, and W4: the invoice names the merchant that signed it.

    :param der: ContentInfo, see `read_contract`.
    :param now: the time to judge by, of a dispute perhaps years ago. It may be signed at any time before.
    :raises ProtocolError: see `kwbp.checks`.
    """
    read = read_contract(der)
    for received, role in ((read.merchant, Role.MERCHANT), (read.buyer, Role.CARDHOLDER)):
        verify_signer(received, role=role, trust=trust, now=now)
        check_not_future(received, now=now)
    invoice = read.merchant.body
    identity = MerchantIdentity.of(read.merchant.signer)
    require(
        (invoice.merchant_id, invoice.mer_cert_hash, invoice.acquirer_bin)
        == (identity.merchant_id, identity.cert_hash, identity.acquirer_bin),
        ErrorCode.INVOICE_MISMATCH,
        "W4",
        "invoice must name the merchant that signed it",
    )
    return Contract(invoice, identity, read.buyer.signer, read.link, read.merchant.digest)


def message_of(contract: bytes) -> bytes:
    """DER `KwbpMessage` with a contract of one's own, C → M: RRPID and XID are those of the invoice."""
    invoice = read_contract(contract).merchant.body
    return wrap(MT_CONTRACT, contract, rrpid=invoice.rrpid, xid=invoice.xid)


def take_contract(
    message: KwbpMessage, *, invoice: InvoiceTBS, dual: Received[DualSigTBS], trust: Trust, now: datetime
) -> Contract:
    """The merchant's checks: `check_contract`, K2, M4 and M7: it is the contract of this invoice and this order.

    :param message: from `unwrap(…, expected=[MT_CONTRACT])`. :param invoice: as the merchant issued it.
    :param dual: the order that the merchant accepted. :raises ProtocolError: see `kwbp.checks`.
    """
    contract = check_contract(message.body, trust=trust, now=now)
    check_header(message, MT_CONTRACT, rrpid=contract.invoice.rrpid, xid=contract.invoice.xid)
    require(
        encode(contract.invoice) == encode(invoice),
        ErrorCode.INVOICE_MISMATCH,
        "M4",
        "contract must be about the invoice that was issued",
    )
    require_same_order(contract, dual)
    return contract


def require_same_order(contract: Contract, dual: Received[DualSigTBS]) -> None:
    """M7: contract and dual signature are about one order, by one buyer. The dual signature is verified elsewhere.

    :raises ProtocolError: hashMismatch, roleNotAllowed.
    """
    body = dual.body
    require(
        encode(contract.link) == encode(DualLink.of(body))
        and (contract.invoice.xid, contract.invoice.mer_cert_hash) == (body.xid, body.mer_cert_hash),
        ErrorCode.HASH_MISMATCH,
        "M7",
        "contract and dual signature must be about the same order",
    )
    require(
        contract.buyer == dual.signer,
        ErrorCode.ROLE_NOT_ALLOWED,
        "M7",
        "contract and dual signature must be signed by the same card",
    )
