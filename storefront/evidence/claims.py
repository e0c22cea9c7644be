"""One question of a dispute, answered from a bundle: upheld, refuted, or not decidable with what is there.

A denial is refuted by a statement that the bundle proves. It is upheld only by something that one of the *others*
signed: a file that is broken by itself shows nothing, for whoever brought the bundle may have broken it. But where
another party's good signature names these very bytes (the gateway's answer an order that the buyer never signed, a
merchant's receipt an answer that no gateway gave), that party has acted on them, and its own signature says so.
Whether bytes are forged is told from them alone (`Exhibit.forged`), never from the lists or certificates beside them,
which whoever brought the bundle could have left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kwbp.codes import AuthCode, PurchaseStatus
from pki.der import sha256
from runtime.language import Message
from storefront.evidence.dossier import Dossier
from storefront.evidence.moments import rial
from storefront.evidence.movements import standing_after
from storefront.evidence.statements import About, State, Statement, Statements


class Claim(StrEnum):
    """What somebody may say before a court. The list is closed."""

    BUYER_DENIES_ORDER = "buyer-denies-order"
    BUYER_DENIES_PAYMENT = "buyer-denies-payment"
    MERCHANT_DENIES_PRICE = "merchant-denies-price"
    MERCHANT_DENIES_GOODS = "merchant-denies-goods"
    MERCHANT_DENIES_RESULT = "merchant-denies-result"
    MERCHANT_DENIES_CONFIRMATION = "merchant-denies-confirmation"
    GATEWAY_DENIES_APPROVAL = "gateway-denies-approval"
    GATEWAY_APPROVED_UNSIGNED = "gateway-approved-unsigned"
    RECEIPT_IS_FORGED = "receipt-is-forged"
    PARTS_OF_ANOTHER_PURCHASE = "parts-of-another-purchase"
    TWO_RECEIPTS = "two-receipts"
    APPROVAL_WAS_REVERSED = "approval-was-reversed"
    NOTHING_WAS_REFUNDED = "nothing-was-refunded"


MEANINGS: Final[Mapping[Claim, Message]] = {
    Claim.BUYER_DENIES_ORDER: Message("the buyer: I did not order this"),
    Claim.BUYER_DENIES_PAYMENT: Message("the buyer: I did not pay in this way, through this gateway"),
    Claim.MERCHANT_DENIES_PRICE: Message("the merchant: I did not offer this order for this price"),
    Claim.MERCHANT_DENIES_GOODS: Message("the merchant: I did not offer these goods"),
    Claim.MERCHANT_DENIES_RESULT: Message("the merchant: I did not get the gateway's answer"),
    Claim.MERCHANT_DENIES_CONFIRMATION: Message("the merchant: I did not confirm this order as paid"),
    Claim.GATEWAY_DENIES_APPROVAL: Message("the gateway: I did not approve this"),
    Claim.GATEWAY_APPROVED_UNSIGNED: Message("the buyer: the gateway approved what I did not sign"),
    Claim.RECEIPT_IS_FORGED: Message("anybody: the receipt is not the merchant's, or rests on no answer to this order"),
    Claim.PARTS_OF_ANOTHER_PURCHASE: Message("anybody: these are parts of different purchases"),
    Claim.TWO_RECEIPTS: Message("the buyer: the merchant signed two receipts that disagree (needs the other bundle)"),
    Claim.APPROVAL_WAS_REVERSED: Message("the buyer or the merchant: what was approved was given back"),
    Claim.NOTHING_WAS_REFUNDED: Message("the buyer: the merchant has refunded nothing of this purchase"),
}


class Verdict(StrEnum):
    """The answer to a claim."""

    UPHELD = "upheld"
    REFUTED = "refuted"
    UNDECIDED = "not decidable"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, why, and on which files it rests."""

    claim: Claim
    verdict: Verdict
    reasons: tuple[Message, ...]
    rests_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A judged bundle; `other` is another bundle that is held against it."""

    dossier: Dossier
    statements: Statements
    other: Case | None = None


def decide(claim: Claim, case: Case) -> Decision:
    """Answer one claim."""
    return _RULES[claim](claim, case)


def _upheld(claim: Claim, reason: Message, *files: str) -> Decision:
    return Decision(claim, Verdict.UPHELD, (reason,), files)


def _refuted(claim: Claim, statement: Statement, reason: Message) -> Decision:
    return Decision(claim, Verdict.REFUTED, (reason,), statement.proven_by)


def _undecided(claim: Claim, *about: Statement) -> Decision:
    """Why nothing can be said: the faults, or that nothing is there."""
    reasons = [fault for each in about for fault in (*each.faults, *each.mismatches)]
    if not reasons:
        reasons = [Message("the bundle has nothing that would show it")]
    return Decision(claim, Verdict.UNDECIDED, tuple(dict.fromkeys(reasons)))


def _acted_on_order(dossier: Dossier) -> tuple[Message, str] | None:
    """Who has put a good signature over these bytes as the buyer's order."""
    answer, request = dossier.answer, dossier.request
    answered = answer.received if answer is not None and answer.authentic else None
    if answer is not None and answered is not None and answered.body.h_dual_sig == dossier.order.digest:
        return Message("the gateway answered, signed, an order that the buyer did not sign"), answer.file
    asked = request.received if request is not None and request.authentic else None
    if request is not None and asked is not None and asked.body.dual_sig == dossier.order.der:
        return Message("the merchant asked, signed, for an order that the buyer did not sign"), request.file
    return None


def _buyer_denies_order(claim: Claim, case: Case) -> Decision:
    order = case.statements[About.ORDER]
    if order.proven:
        return _refuted(claim, order, Message("the buyer's signature is over this very invoice"))
    contract = case.statements[About.CONTRACT]
    if contract.proven:  # whatever became of the other file
        return _refuted(claim, contract, Message("the buyer signed this very invoice together with the merchant"))
    acted = _acted_on_order(case.dossier) if case.dossier.order.forged else None
    if acted is not None:
        return _upheld(claim, acted[0], acted[1], case.dossier.order.file)
    return _undecided(claim, order)


def _buyer_denies_payment(claim: Claim, case: Case) -> Decision:
    dossier, payment = case.dossier, case.statements[About.PAYMENT]
    if payment.proven:
        reason = Message("the buyer's signature is over these sealed card data and this gateway")
        return _refuted(claim, payment, reason)
    swapped = _swapped_envelope(dossier)
    if swapped is not None:
        return _upheld(claim, swapped, "auth-req.p7s", dossier.order.file)
    acted = _acted_on_order(dossier) if dossier.order.forged else None
    if acted is not None:
        return _upheld(claim, acted[0], acted[1], dossier.order.file)
    return _undecided(claim, payment)


def _swapped_envelope(dossier: Dossier) -> Message | None:
    """The merchant's good signature over card data that the buyer's good signature does not name."""
    request, order = dossier.request, dossier.order
    if request is None or request.received is None or order.received is None:
        return None
    if not (request.authentic and order.authentic) or request.received.body.dual_sig != order.der:
        return None
    if sha256(request.received.body.pi_envelope) == order.received.body.h_pi_envelope:
        return None
    return Message("the merchant asked, signed, with other card data than the buyer signed")


def _merchant_denies_price(claim: Claim, case: Case) -> Decision:
    dossier, offer, order = case.dossier, case.statements[About.OFFER], case.statements[About.ORDER]
    signed = dossier.order.received if dossier.order.authentic else None
    same = signed is not None and signed.body.invoice_hash == dossier.invoice.digest
    files = (dossier.order.file, dossier.invoice.file)
    if dossier.invoice.authentic and signed is not None and not same:
        return _upheld(claim, Message("the buyer's order is for another invoice than this one"), *files)
    if offer.proven:
        return _refuted(claim, offer, Message("the merchant's signature is over this price"))
    contract = case.statements[About.CONTRACT]
    if contract.proven:
        return _refuted(claim, contract, Message("the merchant signed this very invoice together with the buyer"))
    if dossier.invoice.forged and same:
        reason = Message("the buyer ordered, signed, on an invoice that the merchant did not sign")
        return _upheld(claim, reason, *files)
    return _undecided(claim, offer, order)


def _merchant_denies_goods(claim: Claim, case: Case) -> Decision:
    goods = case.statements[About.GOODS]
    if goods.proven:
        return _refuted(claim, goods, Message("the merchant's signature is over the hash of these lines"))
    return _undecided(claim, goods)


def _merchant_denies_result(claim: Claim, case: Case) -> Decision:
    acknowledgement, receipt = case.statements[About.ACKNOWLEDGEMENT], case.statements[About.RECEIPT]
    if acknowledgement.proven:
        return _refuted(claim, acknowledgement, Message("the merchant acknowledged this very answer, signed"))
    if receipt.proven:
        return _refuted(claim, receipt, Message("the merchant's own receipt carries this very answer"))
    return _undecided(claim, acknowledgement, receipt)


def _merchant_denies_confirmation(claim: Claim, case: Case) -> Decision:
    receipt = case.statements[About.RECEIPT]
    shown = case.dossier.receipt
    if receipt.proven and shown is not None and shown.received is not None:
        if shown.received.body.particulars_ok:
            return _refuted(claim, receipt, Message("the merchant's signature is over a receipt that confirms it"))
        return _upheld(claim, Message("the merchant's signed receipt says that it is not paid"), shown.file)
    return _undecided(claim, receipt)


def _gateway_denies_approval(claim: Claim, case: Case) -> Decision:
    answer, dossier = case.statements[About.ANSWER], case.dossier
    shown, receipt, inner = dossier.answer, dossier.receipt, dossier.inner
    if answer.proven and shown is not None and shown.received is not None:
        if shown.received.body.auth_code is AuthCode.APPROVED:
            return _refuted(claim, answer, Message("the gateway's signature is over an approval of this very order"))
        return _upheld(claim, Message("the gateway's signed answer is no approval"), shown.file)
    if receipt is not None and receipt.authentic and inner is not None:
        # Only what the gateway itself said can bind it; the receipt shows what the merchant passed off as that.
        if inner.forged:
            reason = Message("the merchant's receipt carries an answer that the gateway did not sign")
            return _upheld(claim, reason, receipt.file)
        if inner.received is not None and inner.received.body.xid != dossier.xid:
            reason = Message("the merchant's receipt carries the gateway's answer to another purchase")
            return _upheld(claim, reason, receipt.file)
    if shown is not None and shown.authentic and shown.received is not None:
        approved = shown.received.body.auth_code is AuthCode.APPROVED
        if shown.received.body.h_dual_sig == dossier.order.digest and approved:
            reason = Message("the gateway's signature is over an approval of this order, which does not fit the rest")
            return _refuted(claim, answer, reason)
    return _undecided(claim, answer)


def _gateway_approved_unsigned(claim: Claim, case: Case) -> Decision:
    dossier, answer = case.dossier, case.statements[About.ANSWER]
    shown = dossier.answer
    if shown is None or not shown.authentic or shown.received is None:
        return _undecided(claim, answer)
    said = shown.received.body
    if said.auth_code is not AuthCode.APPROVED:
        return _refuted(claim, answer, Message("the gateway's signed answer is no approval"))
    if said.h_dual_sig != dossier.order.digest:
        return _undecided(claim, answer)
    if dossier.order.forged:
        reason = Message("the gateway approved, signed, an order that the buyer did not sign")
        return _upheld(claim, reason, shown.file, dossier.order.file)
    order = dossier.order.received if dossier.order.authentic else None
    if order is not None and said.amount != order.body.amount:
        reason = Message("the gateway approved, signed, another amount than the buyer signed")
        return _upheld(claim, reason, shown.file, dossier.order.file)
    request = dossier.request
    if request is not None and said.h_auth_req == request.digest and _swapped_envelope(dossier) is not None:
        reason = Message("the gateway approved, signed, a request with other card data than the buyer signed")
        return _upheld(claim, reason, shown.file, request.file, dossier.order.file)
    if answer.proven and case.statements[About.ORDER].proven and case.statements[About.PAYMENT].proven:
        return _refuted(claim, answer, Message("what the gateway approved is exactly what the buyer signed"))
    return _undecided(claim, answer, case.statements[About.ORDER], case.statements[About.PAYMENT])


def _receipt_is_forged(claim: Claim, case: Case) -> Decision:
    dossier, statement = case.dossier, case.statements[About.RECEIPT]
    receipt, inner = dossier.receipt, dossier.inner
    if receipt is None:
        return _undecided(claim, statement)
    if statement.proven:
        return _refuted(claim, statement, Message("the merchant signed it, on the gateway's own answer to this order"))
    if receipt.forged:
        return _upheld(claim, Message("it is not signed by the merchant, who is not bound by it"), receipt.file)
    if not receipt.authentic or inner is None:
        return _undecided(claim, statement)
    if inner.forged:
        reason = Message("the merchant's receipt carries an answer that the gateway did not sign")
        return _upheld(claim, reason, receipt.file)
    said = inner.received
    if said is None or (said.body.xid, said.body.h_dual_sig) != (dossier.xid, dossier.order.digest):
        reason = Message("the merchant's receipt carries the gateway's answer to another purchase")
        return _upheld(claim, reason, receipt.file)
    return _undecided(claim, statement)


def _parts_of_another_purchase(claim: Claim, case: Case) -> Decision:
    statements = [each for each in case.statements.values() if each.there]
    if all(each.state is not State.BROKEN for each in statements):
        files = tuple(dict.fromkeys(file for each in statements for file in each.proven_by))
        reason = Message("each part names the others, and none is out of place")
        return Decision(claim, Verdict.REFUTED, (reason,), files)
    if all(exhibit.authentic for exhibit in case.dossier.exhibits):
        found = [fault for each in statements for fault in each.mismatches]
        if found:
            broken = [each for each in statements if each.mismatches]
            files = tuple(dict.fromkeys(file for each in broken for file in each.proven_by))
            return Decision(claim, Verdict.UPHELD, tuple(dict.fromkeys(found)), files)
    return _undecided(claim, *statements)


def _two_receipts(claim: Claim, case: Case) -> Decision:
    if case.other is None:
        return Decision(claim, Verdict.UNDECIDED, (Message("the other bundle is needed (--against)"),))
    one, two = case.dossier.receipt, case.other.dossier.receipt
    if one is None or two is None or one.received is None or two.received is None:
        return _undecided(claim, case.statements[About.RECEIPT], case.other.statements[About.RECEIPT])
    if not (one.authentic and two.authentic):
        return _undecided(claim, case.statements[About.RECEIPT], case.other.statements[About.RECEIPT])
    first, second = one.received.body, two.received.body
    if first.xid != second.xid:
        reason = Message("the two receipts are for two purchases")
    elif (first.completion_code, first.particulars_ok, first.auth_res) != (
        second.completion_code,
        second.particulars_ok,
        second.auth_res,
    ):
        reason = Message("the merchant signed two receipts for one purchase that disagree")
        return _upheld(claim, reason, one.file, two.file)
    else:
        reason = Message("both receipts say the same")
    return Decision(claim, Verdict.REFUTED, (reason,), (one.file, two.file))


def _approval_was_reversed(claim: Claim, case: Case) -> Decision:
    statement, exhibit = case.statements[About.STATUS], case.dossier.status
    if not statement.proven or exhibit is None or exhibit.received is None:
        return _undecided(claim, statement)
    told = exhibit.received.body.status
    if told is PurchaseStatus.REVERSED:
        return _upheld(claim, Message("the gateway said, signed, that the money is back"), exhibit.file)
    if told is PurchaseStatus.CONCLUDED:
        return _refuted(claim, statement, Message("the gateway said later, signed, that its answer stands"))
    reason = Message("the gateway said, signed, that the money is to go back, and not yet that it did")
    return Decision(claim, Verdict.UNDECIDED, (reason,), (exhibit.file,))


def _nothing_was_refunded(claim: Claim, case: Case) -> Decision:
    """A refund that is here refutes it. That none is here shows nothing: there may be more than is here."""
    statement, dossier = case.statements[About.MONEY], case.dossier
    standing = None
    if statement.proven and dossier.answer is not None and dossier.order.received is not None:
        standing = standing_after(dossier.answer.der, dossier.order.received.body.sale_kind, dossier.movements)
    if standing is None:
        return _undecided(claim, statement)
    if standing.refunded:
        amount = rial(standing.refunded)
        return _refuted(
            claim, statement, Message("the gateway said, signed, that {amount} was refunded", amount=amount)
        )
    reason = Message("of what is here nothing was refunded; there may be more than is here")
    return Decision(claim, Verdict.UNDECIDED, (reason,), statement.proven_by)


_RULES: Final[Mapping[Claim, Callable[[Claim, Case], Decision]]] = {
    Claim.BUYER_DENIES_ORDER: _buyer_denies_order,
    Claim.BUYER_DENIES_PAYMENT: _buyer_denies_payment,
    Claim.MERCHANT_DENIES_PRICE: _merchant_denies_price,
    Claim.MERCHANT_DENIES_GOODS: _merchant_denies_goods,
    Claim.MERCHANT_DENIES_RESULT: _merchant_denies_result,
    Claim.MERCHANT_DENIES_CONFIRMATION: _merchant_denies_confirmation,
    Claim.GATEWAY_DENIES_APPROVAL: _gateway_denies_approval,
    Claim.GATEWAY_APPROVED_UNSIGNED: _gateway_approved_unsigned,
    Claim.RECEIPT_IS_FORGED: _receipt_is_forged,
    Claim.PARTS_OF_ANOTHER_PURCHASE: _parts_of_another_purchase,
    Claim.TWO_RECEIPTS: _two_receipts,
    Claim.APPROVAL_WAS_REVERSED: _approval_was_reversed,
    Claim.NOTHING_WAS_REFUNDED: _nothing_was_refunded,
}
