"""The DER structures of KWBP-2: one class a structure, field names as in the protocol, in snake case.

Encodings that differ from the ASN.1 module on paper, for want of the type in the DER library: NumericString and the
identifiers are UTF8String whose characters are checked (`kwbp.fields`); ENUMERATED is INTEGER with a closed value set.

What this module adds to the published field lists, and why:

- `InvoiceReqTBS.basket`: the lines asked for, in clear instead of their hash. The shop needs the lines anyway, and a
  signed basket inside the protocol settles what was ordered (SET left it to a message outside). `ship_to` likewise.
- `DualSigTBS.lid_m` and `.sale_kind`: now each field of `PIHead` but two has its signed twin in clear, so that merchant
  and gateway see *before* anything is opened what the buyer agreed to. The two: `hod`, which AuthReq carries, and
  `trans_stain`, which only the card issuer can check.
- `AuthResTBS.gw_id`: an answer names its gateway, as every other message names its parties.
- `InvoiceTBS.deliver_by` has a context tag: without one it could not be told from the time that follows it.
- `AuthResTBS` fields that only the network can fill are OPTIONAL: an order may be answered without being sent there.

A value that decodes and passes `validate()` has all its fields in form; nothing is said about who wrote them.
"""

from __future__ import annotations

from typing import Annotated, Final

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import AuthCode, CompletionCode, ErrorCode, SaleKind
from kwbp.fields import Der, Hash32, Id20
from kwbp.money import Money, check_payable
from kwbp.structure import Structure

MAX_LINES: Final = 500
"""Order lines in one purchase."""


# ── Row 9: InvoiceReq, C → M ──────────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class BasketLine(Structure):
    """One line of the basket: which article, how many."""

    sku: str
    quantity: int

    def validate(self) -> None:
        fields.check_pattern("sku", self.sku, fields.SKU)
        if not 1 <= self.quantity <= 1_000_000:
            raise fields.refuse("quantity", "must be 1 to 1000000")


@asn1.sequence
class InvoiceReqTBS(Structure):
    """id-kwbp-ct-invoiceReq, signed by the card: "final basket; sign me the invoice" (scenario C).

    `bin` is the issuer number of the card that will pay, `language` of terms and names an RFC 5646 tag (`fa`, `en-US`).
    """

    most = MAX_LINES

    version: int
    rrpid: Id20
    lid_c: Annotated[bytes | None, asn1.Implicit(0)]
    chall_c: Hash32
    brand_id: str
    bin: str
    basket: Annotated[list[BasketLine], asn1.Size(1, MAX_LINES)]
    ship_to: Annotated[str | None, asn1.Implicit(1)]
    language: Annotated[str | None, asn1.Implicit(2)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_size("lidC", self.lid_c, smallest=1, largest=20)
        fields.check_pattern("brandID", self.brand_id, fields.BRAND)
        fields.check_pattern("bin", self.bin, fields.BIN)
        for line in self.basket:
            line.validate()
        if self.ship_to is not None:
            fields.check_text("shipTo", self.ship_to, longest=500, multiline=True)
        fields.check_optional("language", self.language, fields.LANGUAGE)
        fields.check_times(("date", self.date))


# ── Row 10: Invoice, M → C ────────────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class InvoiceTBS(Structure):
    """id-kwbp-ct-invoice, signed by the merchant: the offer, and the promise to deliver if it is paid (scenario D)."""

    version: int
    rrpid: Id20
    xid: Id20
    lid_c: Annotated[bytes | None, asn1.Implicit(0)]
    lid_m: str
    chall_c: Hash32
    chall_m: Hash32
    merchant_id: str
    mer_cert_hash: Hash32
    acquirer_bin: str
    gw_id: str
    gw_cert_hash: Hash32
    amount: Money
    hod: Hash32
    terms: str
    deliver_by: Annotated[asn1.GeneralizedTime | None, asn1.Implicit(1)]
    issued_at: asn1.GeneralizedTime
    not_after: asn1.GeneralizedTime
    bci_number: int

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_size("lidC", self.lid_c, smallest=1, largest=20)
        _check_lid_m(self.lid_m)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("acquirerBIN", self.acquirer_bin, fields.ACQUIRER)
        fields.check_pattern("gwID", self.gw_id, fields.NAME)
        check_payable(self.amount)
        fields.check_text("terms", self.terms, longest=4000, multiline=True)
        fields.check_times(("deliverBy", self.deliver_by), ("issuedAt", self.issued_at), ("notAfter", self.not_after))
        if self.bci_number < 0:
            raise fields.refuse("bciNumber", "must not be negative")


@asn1.sequence
class OrderLine(Structure):
    """One line of the order; `unit_price` and `amount` in rial."""

    sku: str
    name: str
    quantity: int
    unit_price: int
    amount: int

    def validate(self) -> None:
        fields.check_pattern("sku", self.sku, fields.SKU)
        fields.check_text("name", self.name, longest=200)
        if not 1 <= self.quantity <= 1_000_000:
            raise fields.refuse("quantity", "must be 1 to 1000000")
        Money.rial(self.unit_price).validate()
        Money.rial(self.amount).validate()


@asn1.sequence
class OrderDetails(Structure):
    """What is bought: between buyer and merchant only. The salt keeps `hod` from being a guess at the basket."""

    most = MAX_LINES

    salt: Hash32
    lines: Annotated[list[OrderLine], asn1.Size(1, MAX_LINES)]
    ship_to: str | None
    total: Money

    def validate(self) -> None:
        for line in self.lines:
            line.validate()
        if self.ship_to is not None:
            fields.check_text("shipTo", self.ship_to, longest=500, multiline=True)
        self.total.validate()


@asn1.sequence
class InvoiceMessage(Structure):
    """Body of message 10: signed invoice, the details it commits to, and the gateway's encryption certificate.

    `gateway_chain` holds the CA certificates between that certificate and the root, in any order, each as DER.
    """

    invoice: Der
    order_details: Der
    gateway_certificate: Der
    gateway_chain: Annotated[list[Der], asn1.Size(0, 8)]

    def validate(self) -> None:
        """Nothing beyond the types: each member is read by its own rules."""


# ── Row 12: PReq, C → M ───────────────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class OIData(Structure):
    """Order information: the buyer's order to the merchant. The gateway sees its hash only."""

    version: int
    xid: Id20
    lid_c: Annotated[bytes | None, asn1.Implicit(0)]
    lid_m: str
    chall_c: Hash32
    chall_m: Hash32
    rrpid: Id20
    invoice_hash: Hash32
    hod: Hash32
    amount: Money
    merchant_id: str
    brand_id: str
    bin: str
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_size("lidC", self.lid_c, smallest=1, largest=20)
        _check_lid_m(self.lid_m)
        check_payable(self.amount)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("brandID", self.brand_id, fields.BRAND)
        fields.check_pattern("bin", self.bin, fields.BIN)
        fields.check_times(("date", self.date))


@asn1.sequence
class PIHead(Structure):
    """Head of the payment instruction: what the card data may be used for."""

    version: int
    xid: Id20
    lid_m: str
    merchant_id: str
    mer_cert_hash: Hash32
    gw_id: str
    gw_cert_hash: Hash32
    amount: Money
    hod: Hash32
    invoice_hash: Hash32
    not_after: asn1.GeneralizedTime
    sale_kind: SaleKind
    trans_stain: Hash32

    def validate(self) -> None:
        fields.check_version(self.version)
        _check_lid_m(self.lid_m)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("gwID", self.gw_id, fields.NAME)
        check_payable(self.amount)
        fields.check_times(("notAfter", self.not_after))


@asn1.sequence
class PANData(Structure):
    """The card, in clear: exists only inside the wallet and the gateway's key service. Its repr shows no field."""

    pan: str
    expiry: str
    pan_secret: Hash32
    pin2: Annotated[str | None, asn1.Implicit(0)]
    cvv2: Annotated[str | None, asn1.Implicit(1)]
    ex_nonce: Hash32

    def validate(self) -> None:
        """Nothing beyond the types: `shetab.types` judges the digits, without telling them (G10)."""


@asn1.sequence
class PIData(Structure):
    """Payment instruction; `hPIData` is SHA-256 of its DER. panSecret and exNonce inside make that hash no oracle."""

    pi_head: PIHead
    pan_data: PANData

    def validate(self) -> None:
        self.pi_head.validate()
        self.pan_data.validate()


@asn1.sequence
class PISealed(Structure):
    """Plaintext of the envelope to the gateway: PIData, tied to its order by `h_oi_data`."""

    pi_head: PIHead
    pan_data: PANData
    h_oi_data: Hash32

    def validate(self) -> None:
        self.pi_head.validate()
        self.pan_data.validate()


@asn1.sequence
class DualSigTBS(Structure):
    """id-kwbp-ct-dualSig, signed by the card: this order and this payment, for this merchant, through this gateway."""

    version: int
    h_pi_data: Hash32
    h_oi_data: Hash32
    xid: Id20
    lid_m: str
    merchant_id: str
    mer_cert_hash: Hash32
    gw_id: str
    gw_cert_hash: Hash32
    amount: Money
    invoice_hash: Hash32
    h_pi_envelope: Hash32
    not_after: asn1.GeneralizedTime
    sale_kind: SaleKind

    def validate(self) -> None:
        fields.check_version(self.version)
        _check_lid_m(self.lid_m)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("gwID", self.gw_id, fields.NAME)
        check_payable(self.amount)
        fields.check_times(("notAfter", self.not_after))


@asn1.sequence
class PReq(Structure):
    """Body of message 12: OIData in clear, signed DualSigTBS, H(PIData), sealed PI."""

    oi_data: OIData
    dual_sig: Der
    h_pi_data: Hash32
    pi_envelope: Der

    def validate(self) -> None:
        self.oi_data.validate()


# ── Rows 13 to 15: AuthReq, AuthRes, AuthAck, M ↔ G ───────────────────────────────────────────────────────────────────


@asn1.sequence
class AuthReqTBS(Structure):
    """id-kwbp-ct-authReq, signed by the merchant: "this order is final, collect it" (scenario F).

    `invoice` and `dual_sig` are SignedData, `pi_envelope` is AuthEnvelopedData, each as received or sent before.
    `attempt` counts from 1; a repeated AuthReq is the same bytes, so another attempt is another order to the gateway.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    terminal_id: str
    amount: Money
    capture_now: bool
    h_oi_data: Hash32
    hod: Hash32
    invoice: Der
    dual_sig: Der
    pi_envelope: Der
    date: asn1.GeneralizedTime
    attempt: int

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_pattern("terminalID", self.terminal_id, fields.TERMINAL)
        check_payable(self.amount)
        fields.check_times(("date", self.date))
        if not 1 <= self.attempt <= 99:
            raise fields.refuse("attempt", "must be 1 to 99")


@asn1.sequence
class AuthResTBS(Structure):
    """id-kwbp-ct-authRes, signed by the gateway: what the bank network answered (scenario H).

    `rc` is DE 39, `stan` DE 11, `rrn` DE 37, `approval` DE 38, `settle_date` DE 15 (MMDD): as they came, absent if the
    order never reached the switch or no answer came. `masked_pan` has the first six and last four digits.
    An approval not acknowledged by `ack_by` is reversed.
    """

    version: int
    rrpid: Id20
    xid: Id20
    chall_c: Hash32
    merchant_id: str
    mer_cert_hash: Hash32
    h_auth_req: Hash32
    h_dual_sig: Hash32
    amount: Money
    auth_code: AuthCode
    rc: Annotated[str | None, asn1.Implicit(0)]
    stan: Annotated[str | None, asn1.Implicit(1)]
    rrn: Annotated[str | None, asn1.Implicit(2)]
    approval: Annotated[str | None, asn1.Implicit(3)]
    masked_pan: Annotated[str | None, asn1.Implicit(4)]
    settle_date: Annotated[str | None, asn1.Implicit(5)]
    gw_id: str
    acquirer_id: str
    date: asn1.GeneralizedTime
    ack_by: asn1.GeneralizedTime
    cap_token: Annotated[bytes | None, asn1.Implicit(6)]

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        check_payable(self.amount)
        fields.check_optional("rc", self.rc, fields.RESPONSE_CODE)
        fields.check_optional("stan", self.stan, fields.STAN)
        fields.check_optional("rrn", self.rrn, fields.RRN)
        fields.check_optional("approval", self.approval, fields.APPROVAL)
        fields.check_optional("maskedPan", self.masked_pan, fields.MASKED_PAN)
        fields.check_optional("settleDate", self.settle_date, fields.SETTLE_DATE)
        fields.check_pattern("gwID", self.gw_id, fields.NAME)
        fields.check_pattern("acquirerID", self.acquirer_id, fields.ACQUIRER)
        fields.check_times(("date", self.date), ("ackBy", self.ack_by))
        fields.check_size("capToken", self.cap_token, smallest=1, largest=4096)


@asn1.sequence
class AuthAckTBS(Structure):
    """id-kwbp-ct-authAck, signed by the merchant: the answer arrived. `rrpid` is that of the exchange it closes."""

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    h_auth_res: Hash32
    accepted: bool
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_times(("date", self.date))


# ── Rows 16 and 24: Receipt, M → C; Error, anyone ─────────────────────────────────────────────────────────────────────


@asn1.sequence
class ReceiptTBS(Structure):
    """id-kwbp-ct-receipt, signed by the merchant: the end of the purchase, with the gateway's own signed answer inside.

    `particulars_ok` confirms or denies the particulars of the order (scenario H2); `reason` says why not.
    """

    version: int
    rrpid: Id20
    xid: Id20
    chall_c: Hash32
    h_oi_data: Hash32
    completion_code: CompletionCode
    particulars_ok: bool
    reason: str | None
    auth_res: Der
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        if self.reason is not None:
            fields.check_text("reason", self.reason, longest=500)
        fields.check_times(("date", self.date))


@asn1.sequence
class ErrorTBS(Structure):
    """id-kwbp-ct-error: a message was refused. Signed, or bare where the sender has no certificate.

    `rrpid` is that of the refused message, 20 zero bytes if it could not be read; `h_message` SHA-256 of the message as
    received, wrapper included; `time_hint` the sender's clock, with messageTooOld, messageTooNew and clockSkew only;
    `clause` the id of the check that refused, possibly empty. There is no room for free text on purpose.
    """

    version: int
    error_code: ErrorCode
    rrpid: Id20
    xid: Annotated[bytes | None, asn1.Implicit(0)]
    h_message: Hash32
    date: asn1.GeneralizedTime
    time_hint: Annotated[asn1.GeneralizedTime | None, asn1.Implicit(1)]
    clause: str

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_size("xid", self.xid, smallest=20, largest=20)
        fields.check_times(("date", self.date), ("timeHint", self.time_hint))
        fields.check_pattern("clause", self.clause, fields.CHECK_ID)


def _check_lid_m(lid_m: str) -> None:
    fields.check_text("lidM", lid_m, longest=20)
    if len(lid_m.encode()) > 20:
        raise fields.refuse("lidM", "must have at most 20 bytes")
