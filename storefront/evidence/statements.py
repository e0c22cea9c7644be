"""Who is bound to what: the statements that a bundle proves, each with what proves it and why it does not, if so.

A statement is PROVEN, BROKEN (something is shown for it, and does not prove it) or ABSENT. `verify.sh` judges the same
ones, by the same names, with OpenSSL alone. Faults come in two kinds: of one message (not in form, not signed by whom
it should be) and between messages (`mismatch`: each may be genuine, but they are not about one purchase).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography.hazmat import asn1

from kwbp.codes import AuthCode, PurchaseStatus
from kwbp.coherence import carries_references, claims_no_more, leaves_open, tells_one_story
from kwbp.common import instant, read_envelope
from kwbp.contract import DualLink
from kwbp.errors import ProtocolError
from kwbp.messages import AuthResTBS, DualSigTBS, InvoiceTBS
from kwbp.money import Money
from kwbp.parties import GatewayIdentity, MerchantIdentity, gateway_data
from kwbp.structure import encode
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.errors import UNREADABLE, PkiError
from pki.oids import CT_AUTH_RES, CT_ERROR
from runtime.language import Message, Term
from storefront.evidence.dossier import Dossier, Exhibit
from storefront.evidence.folder import ENVELOPE
from storefront.evidence.moments import moment, rial
from storefront.evidence.movements import Movement, faults_of, standing_after
from storefront.evidence.standing import Party, Standing, Standings


class About(StrEnum):
    """What a statement is about, in the order of the purchase."""

    TIME = "time"
    OFFER = "offer"
    GOODS = "goods"
    ORDER = "order"
    PAYMENT = "payment"
    CONTRACT = "contract"
    REQUEST = "request"
    ANSWER = "answer"
    ACKNOWLEDGEMENT = "acknowledgement"
    RECEIPT = "receipt"
    STATUS = "status"
    MONEY = "money"


class State(StrEnum):
    """Whether a bundle proves a statement."""

    PROVEN = "proven"
    BROKEN = "broken"
    ABSENT = "absent"


@dataclass(slots=True)
class Statement:
    """One party, one thing that it is bound to.

    `since` is when its own message says that it was made; `proven_by` the files; `status` under which information about
    the signer's certificate. `faults` are about the message itself, `mismatches` about what it does not fit.
    """

    about: About
    what: Message
    there: bool
    party: Party | None = None
    proven_by: tuple[str, ...] = ()
    since: datetime | None = None
    status: tuple[Message, ...] = ()
    faults: list[Message] = field(default_factory=list)
    mismatches: list[Message] = field(default_factory=list)

    @property
    def state(self) -> State:
        if not self.there:
            return State.ABSENT
        return State.BROKEN if self.faults or self.mismatches else State.PROVEN

    @property
    def proven(self) -> bool:
        return self.state is State.PROVEN

    def fits(self, condition: bool, otherwise: Message) -> None:
        """Note that something does not fit, unless `condition`."""
        if not condition:
            self.mismatches.append(otherwise)


Statements = Mapping[About, Statement]


def judge_statements(dossier: Dossier, standings: Standings) -> Statements:
    """Every statement about a purchase; `dossier` is one whose standing was judged."""
    found: dict[About, Statement] = {}
    judges: tuple[Callable[[Dossier, Standings, Statements], Statement], ...] = (
        _time,
        _offer,
        _goods,
        _order,
        _payment,
        _contract,
        _request,
        _answer,
        _acknowledgement,
        _receipt,
        _status,
        _money,
    )
    for judge in judges:
        statement = judge(dossier, standings, found)
        found[statement.about] = statement
    return found


def _signed(
    about: About, what: Message, exhibit: Exhibit[Any] | None, standing: Standing | None, *more: str
) -> Statement:
    """A statement that rests on one signed message."""
    if exhibit is None:
        return Statement(about, what, there=False)
    statement = Statement(about, what, there=True, proven_by=(exhibit.file, *more), faults=list(exhibit.faults))
    if standing is not None:
        statement.party, statement.status = standing.party, standing.status
    return statement


def _must_fit(statement: Statement, *others: Exhibit[Any] | None) -> None:
    """What cannot be compared does not fit."""
    for each in others:
        if each is not None and each.received is None:
            statement.fits(False, Message("{file}, which it must fit, cannot be read", file=each.file))


def _since(statement: Statement, time: asn1.GeneralizedTime) -> None:
    statement.since = instant(time)


def _time(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    time = standings.time
    at = moment(time.stamped_at or dossier.when)
    what = Message("the gateway's answer, and so everything before it, existed at {time}", time=at)
    statement = Statement(
        About.TIME, what, there=dossier.time_stamp is not None, proven_by=("timestamp.tsr",), since=time.stamped_at
    )
    statement.faults = [*([] if time.fault is None else [time.fault]), *standings.authorities]
    return statement


_OTHER_PURCHASE = Message("it is about another purchase")
_OTHER_CERTIFICATE = Message("it names another certificate of the merchant")
_OTHER_CHALLENGE = Message("it does not have the challenge of the invoice")
_OTHER_AMOUNT = Message("it is about another amount")


def _offer(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    received = dossier.invoice.received
    price = Message("a price") if received is None else rial(received.body.amount.amount)
    what = Message("offered this order for {price}, and promised to deliver what is paid", price=price)
    merchant = standings.signers.get("merchant")
    statement = _signed(About.OFFER, what, dossier.invoice, merchant, "signers/merchant.pem")
    if received is None:
        return statement
    invoice = received.body
    _since(statement, invoice.issued_at)
    statement.fits(invoice.xid == dossier.xid, _OTHER_PURCHASE)
    try:
        identity = MerchantIdentity.of(received.signer)
    except ProtocolError:
        return statement  # its standing says so
    statement.fits(invoice.mer_cert_hash == identity.cert_hash, _OTHER_CERTIFICATE)
    statement.fits(
        invoice.merchant_id == identity.merchant_id, Message("it names another merchant than the one who signed it")
    )
    return statement


def _goods(dossier: Dossier, standings: Standings, found: Statements) -> Statement:
    received, details = dossier.invoice.received, dossier.details
    lines = 0 if details is None else len(details.lines)
    what = Message("offered exactly these goods ({count} lines)", count=lines)
    exhibit = dossier.invoice if dossier.order_details is not None else None
    merchant = standings.signers.get("merchant")
    statement = _signed(About.GOODS, what, exhibit, merchant, "order-details.der")
    statement.since = found[About.OFFER].since
    if dossier.order_details is None or received is None:
        return statement
    statement.mismatches += found[About.OFFER].mismatches
    invoice = received.body
    statement.fits(invoice.hod == sha256(dossier.order_details), Message("the invoice is for other lines than these"))
    if details is None:
        statement.faults.append(Message("the order's lines are not in form"))
        return statement
    sums = [line.quantity * line.unit_price for line in details.lines]
    statement.fits(
        [line.amount for line in details.lines] == sums and details.total == Money.rial(sum(sums)) == invoice.amount,
        Message("the lines do not add up to the amount of the invoice"),
    )
    return statement


def _order(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    received, invoice = dossier.order.received, dossier.invoice.received
    price = Message("a price") if received is None else rial(received.body.amount.amount)
    what = Message("ordered exactly what the invoice says, for {price}", price=price)
    statement = _signed(About.ORDER, what, dossier.order, standings.signers.get("buyer"), "invoice.p7s", "oi-data.der")
    if received is None:
        return statement
    order = received.body
    statement.since = received.signed.signing_time
    statement.fits(order.xid == dossier.xid, _OTHER_PURCHASE)
    _must_fit(statement, dossier.invoice)
    statement.fits(order.invoice_hash == dossier.invoice.digest, Message("the order names another invoice"))
    if invoice is not None:
        _check_order(statement, order, invoice.body)
    if dossier.oi_data is None:
        statement.fits(dossier.answer is not None, Message("nothing that is signed says when it was"))
        statement.proven_by = tuple(name for name in statement.proven_by if name != "oi-data.der")
        return statement
    statement.fits(order.h_oi_data == sha256(dossier.oi_data), Message("the order names other order information"))
    if dossier.oi is None:
        statement.faults.append(Message("the order information is not in form"))
        return statement
    if dossier.answer is None:
        statement.fits(instant(dossier.oi.date) == dossier.when, Message("it is not of the time that is judged"))
    statement.fits(dossier.oi.xid == dossier.xid, Message("the order information is about another purchase"))
    statement.fits(
        dossier.oi.invoice_hash == dossier.invoice.digest, Message("the order information names another invoice")
    )
    if invoice is not None:
        statement.fits(dossier.oi.hod == invoice.body.hod, Message("the order information names other lines"))
        statement.fits(
            dossier.oi.amount == invoice.body.amount, Message("the order information is about another amount")
        )
    return statement


def _check_order(statement: Statement, order: DualSigTBS, invoice: InvoiceTBS) -> None:
    statement.fits(order.mer_cert_hash == invoice.mer_cert_hash, _OTHER_CERTIFICATE)
    statement.fits(order.amount == invoice.amount, _OTHER_AMOUNT)


def _payment(dossier: Dossier, standings: Standings, found: Statements) -> Statement:
    received, invoice = dossier.order.received, dossier.invoice.received
    gateway = "?" if received is None else received.body.gw_id
    card = standings.signers["buyer"].party
    what = Message(
        "paid with the card that the certificate commits to ({card}), through the gateway {gateway}",
        card="?" if card is None else card.id,
        gateway=gateway,
    )
    files = (*(() if dossier.envelope is None else (ENVELOPE,)), "signers/gateway-encryption.pem")
    statement = _signed(About.PAYMENT, what, dossier.order, standings.signers.get("buyer"), *files)
    statement.since = found[About.ORDER].since
    statement.faults = list(found[About.ORDER].faults) + list(standings.signers["gateway-encryption"].faults)
    statement.mismatches = list(found[About.ORDER].mismatches)
    if received is None:
        return statement
    order = received.body
    certificate = dossier.signers["gateway-encryption"]
    try:
        identity = GatewayIdentity.of(certificate)
    except (ProtocolError, PkiError, *UNREADABLE):
        statement.faults.append(Message("the certificate does not say whose it is"))
        return statement
    statement.fits(order.gw_cert_hash == identity.cert_hash, Message("the buyer chose another gateway's certificate"))
    if invoice is not None:
        statement.fits(
            (invoice.body.gw_id, invoice.body.gw_cert_hash) == (identity.gateway_id, identity.cert_hash),
            Message("the invoice names another gateway"),
        )
    if dossier.envelope is None:
        return statement
    statement.fits(order.h_pi_envelope == sha256(dossier.envelope), _OTHER_ENVELOPE)
    try:
        envelope = read_envelope(dossier.envelope)
    except ProtocolError:
        statement.faults.append(Message("the sealed card data are not in form"))
        return statement
    statement.fits(
        envelope.is_for(certificate),
        Message("the card data are sealed to somebody else than the gateway that was chosen"),
    )
    return statement


_OTHER_ENVELOPE = Message("the sealed card data are not those that the buyer signed")


def _contract(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    """Both signatures, each by whom it should be, over this invoice and tied to this order."""
    what = Message("signed the merchant's invoice as well: one file that both have signed")
    shown = dossier.contract
    if shown is None:
        return Statement(About.CONTRACT, what, there=False)
    statement = Statement(About.CONTRACT, what, there=True, proven_by=(shown.buyer.file, dossier.invoice.file))
    standing = standings.signers.get("buyer")
    if standing is not None:
        statement.party, statement.status = standing.party, standing.status
    merchant, buyer = shown.merchant.received, shown.buyer.received
    if merchant is None or buyer is None or shown.link is None:
        statement.faults = list(shown.buyer.faults)
        return statement
    statement.faults = [
        *(Message("the merchant's part of it: {fault}", fault=fault) for fault in shown.merchant.faults),
        *(Message("the buyer's part of it: {fault}", fault=fault) for fault in shown.buyer.faults),
    ]
    statement.since = buyer.signed.signing_time
    _must_fit(statement, dossier.invoice, dossier.order)
    invoice, order = dossier.invoice.received, dossier.order.received
    if invoice is not None:
        statement.fits(
            merchant.signed.content == invoice.signed.content, Message("it is over another invoice than this one")
        )
    if order is not None:
        statement.fits(
            encode(shown.link) == encode(DualLink.of(order.body)),
            Message("the buyer's part of it is of another order"),
        )
    return statement


def _request(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    what = Message("asked the gateway to collect this order, unchanged")
    statement = _signed(About.REQUEST, what, dossier.request, standings.signers.get("merchant"))
    if dossier.request is None or dossier.request.received is None:
        return statement
    request = dossier.request.received.body
    _since(statement, request.date)
    statement.fits(request.xid == dossier.xid, _OTHER_PURCHASE)
    _must_fit(statement, dossier.invoice, dossier.order)
    statement.fits(request.invoice == dossier.invoice.der, Message("it carries another invoice"))
    statement.fits(request.dual_sig == dossier.order.der, Message("it carries another order"))
    statement.fits(request.pi_envelope == dossier.envelope, Message("it carries other sealed card data"))
    order, invoice = dossier.order.received, dossier.invoice.received
    if order is not None:
        statement.fits(
            request.h_oi_data == order.body.h_oi_data, Message("it names other order information than the buyer")
        )
    if invoice is not None:
        statement.fits(request.hod == invoice.body.hod, Message("it names other lines than the invoice"))
        statement.fits(request.amount == invoice.body.amount, _OTHER_AMOUNT)
    return statement


def _answered(answer: AuthResTBS) -> Message:
    amount = rial(answer.amount.amount)
    if answer.auth_code is AuthCode.APPROVED:
        return Message("approved {amount} for this order (reference {rrn})", amount=amount, rrn=answer.rrn or "-")
    if leaves_open(answer):
        return Message("answered that it does not know what became of {amount}", amount=amount)
    code = Term("auth code", answer.auth_code.protocol_name)
    return Message("did not approve {amount} for this order: {code}", amount=amount, code=code)


def _answer(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    exhibit = dossier.answer
    received = None if exhibit is None else exhibit.received
    what = Message("answered this order") if received is None else _answered(received.body)
    statement = _signed(About.ANSWER, what, exhibit, standings.signers.get("gateway"), "dual-signature.p7s")
    if exhibit is None or received is None:
        return statement
    answer = received.body
    _since(statement, answer.date)
    statement.fits(answer.xid == dossier.xid, _OTHER_PURCHASE)
    _must_fit(statement, dossier.invoice, dossier.order)
    statement.fits(instant(answer.date) == dossier.when, Message("it is not of the time that is judged"))
    statement.fits(answer.h_dual_sig == dossier.order.digest, Message("it is an answer to another order"))
    statement.fits(carries_references(answer), Message("an approval carries the bank network's references"))
    invoice, order = dossier.invoice.received, dossier.order.received
    if invoice is not None:
        statement.fits(_is_gateway_of(exhibit, invoice.body), Message("another gateway than the buyer's answers"))
        statement.fits(answer.chall_c == invoice.body.chall_c, _OTHER_CHALLENGE)
        statement.fits(
            (answer.merchant_id, answer.mer_cert_hash) == (invoice.body.merchant_id, invoice.body.mer_cert_hash),
            Message("it is an answer to another merchant"),
        )
    if order is not None:
        statement.fits(answer.amount == order.body.amount, _OTHER_AMOUNT)
    if dossier.request is not None:
        statement.fits(answer.h_auth_req == dossier.request.digest, Message("it is an answer to another request"))
    return statement


def _is_gateway_of(exhibit: Exhibit[Any], invoice: InvoiceTBS) -> bool:
    """Whether the signer is the gateway that the invoice names, by its certificate."""
    try:
        data = gateway_data(exhibit.received.signer) if exhibit.received is not None else None
    except ProtocolError:
        return False
    return data is not None and (data.gateway_id, data.acquirer_bin) == (invoice.gw_id, invoice.acquirer_bin)


def _acknowledgement(dossier: Dossier, standings: Standings, found: Statements) -> Statement:
    exhibit = dossier.acknowledgement
    received = None if exhibit is None else exhibit.received
    if received is not None and not received.body.accepted:
        what = Message("acknowledged the gateway's answer, and asked for the money to go back")
    else:
        what = Message("acknowledged the gateway's answer")
    statement = _signed(About.ACKNOWLEDGEMENT, what, exhibit, standings.signers.get("merchant"), "auth-res.p7s")
    if received is None:
        return statement
    _since(statement, received.body.date)
    statement.fits(received.body.xid == dossier.xid, _OTHER_PURCHASE)
    answer = dossier.answer
    statement.fits(answer is not None and received.body.h_auth_res == answer.digest, Message("it is of another answer"))
    _rests_on(statement, found[About.ANSWER])
    return statement


def _rests_on(statement: Statement, below: Statement) -> None:
    if below.state is State.BROKEN:
        statement.fits(False, Message("the gateway's answer, on which it rests, does not hold"))


def _receipt(dossier: Dossier, standings: Standings, found: Statements) -> Statement:
    exhibit = dossier.receipt
    received = None if exhibit is None else exhibit.received
    if received is None:
        what = Message("told the buyer how the purchase ended")
    elif received.body.particulars_ok:
        what = Message("confirmed the paid order to the buyer")
    else:
        completion = Term("completion code", received.body.completion_code.protocol_name)
        what = Message("told the buyer that the order is not paid: {completion}", completion=completion)
    statement = _signed(About.RECEIPT, what, exhibit, standings.signers.get("merchant"), "auth-res.p7s")
    if received is None:
        return statement
    receipt = received.body
    _since(statement, receipt.date)
    statement.fits(receipt.xid == dossier.xid, _OTHER_PURCHASE)
    _must_fit(statement, dossier.invoice, dossier.order, dossier.answer)
    invoice, order, answer = dossier.invoice.received, dossier.order.received, dossier.answer
    if invoice is not None:
        statement.fits(
            receipt.chall_c == invoice.body.chall_c, Message("it does not have the challenge of the invoice")
        )
    if order is not None:
        statement.fits(receipt.h_oi_data == order.body.h_oi_data, Message("it is for another order"))
    statement.fits(
        answer is not None and receipt.auth_res == answer.der,
        Message("it carries another answer, or none"),
    )
    if answer is not None and answer.received is not None:
        statement.fits(claims_no_more(receipt, answer.received.body), Message("it claims more than the gateway said"))
    _receipt_ack(statement, dossier)
    _rests_on(statement, found[About.ANSWER])
    return statement


def _receipt_ack(statement: Statement, dossier: Dossier) -> None:
    """The buyer's acknowledgement of the receipt, where it is here, is no statement of its own: it must fit."""
    ack, receipt = dossier.receipt_ack, dossier.receipt
    if ack is None or receipt is None:
        return
    genuine = not ack.faults and ack.received is not None and ack.received.body.xid == dossier.xid
    statement.fits(
        genuine and ack.received is not None and ack.received.body.h_receipt == receipt.digest,
        Message("the buyer's acknowledgement of it is of another receipt, or not the buyer's"),
    )


def _status(dossier: Dossier, standings: Standings, _found: Statements) -> Statement:
    exhibit = dossier.status
    received = None if exhibit is None else exhibit.received
    stands = Term("purchase status", "unknown" if received is None else received.body.status.protocol_name)
    what = Message("said later where the purchase stands: {status}", status=stands)
    standing = standings.signers.get("gateway-status")
    statement = _signed(About.STATUS, what, exhibit, standing, "signers/gateway-status.pem")
    if exhibit is None or received is None:
        return statement
    told = received.body
    _since(statement, told.date)
    statement.fits(told.xid == dossier.xid, _OTHER_PURCHASE)
    _must_fit(statement, dossier.invoice, dossier.answer)
    statement.fits(instant(told.date) == dossier.told_at, Message("it is not of the time that is judged"))
    invoice = dossier.invoice.received
    if invoice is not None:
        statement.fits(_is_gateway_of(exhibit, invoice.body), Message("another gateway than the buyer's answers"))
        statement.fits(told.merchant_id == invoice.body.merchant_id, Message("it is an answer to another merchant"))
    answer = dossier.answer
    if answer is not None and answer.received is not None:
        statement.fits(_repeats(told.result, answer.der), Message("it repeats another answer than this one"))
        statement.fits(
            told.status is not PurchaseStatus.IN_PROGRESS
            and tells_one_story(told.status, has_result=True, auth_res=answer.received.body),
            Message("it does not agree with the answer"),
        )
    return statement


def _repeats(result: bytes | None, answer: bytes) -> bool:
    try:
        return result is not None and unwrap(result, expected=(CT_AUTH_RES, CT_ERROR)).body == answer
    except ProtocolError:
        return False


def _money(dossier: Dossier, standings: Standings, found: Statements) -> Statement:
    """Captured, taken back, given back: each pair by itself, and all of them one after the other."""
    if not dossier.movements:
        return Statement(About.MONEY, Message("moved the money as it was asked to"), there=False)
    answer, order = dossier.answer, dossier.order.received
    standing = None
    if answer is not None and order is not None:
        standing = standing_after(answer.der, order.body.sale_kind, dossier.movements)
    what = Message("moved the money as it was asked to")
    if standing is not None:
        what = Message(
            "moved the money as it was asked to: {captured} captured, {refunded} given back",
            captured=rial(standing.captured),
            refunded=rial(standing.refunded),
        )
    files = tuple(f"{each.name}/{file}" for each in dossier.movements for file in ("request.p7s", "answer.p7s"))
    statement = Statement(About.MONEY, what, there=True, proven_by=files)
    gateway = standings.signers.get("gateway")
    statement.party = None if gateway is None else gateway.party
    statement.since = dossier.movements[-1].at
    invoice = dossier.invoice.received
    earlier: dict[bytes, Movement] = {}
    for each in dossier.movements:
        statement.faults += faults_of(
            each,
            earlier,
            xid=dossier.xid,
            h_answer=None if answer is None else answer.digest,
            invoice=None if invoice is None else invoice.body,
            root=dossier.root,
            chain=tuple(dossier.chain.values()),
        )
        earlier[sha256(each.answer_der)] = each
    if found[About.ANSWER].state is not State.PROVEN:
        statement.fits(False, Message("the gateway's answer, on which it rests, does not hold"))
    return statement
