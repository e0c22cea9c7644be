"""Disputes, each with the right verdict from the bundle of each party that could bring it; both judges agree each time.

A bundle is written from records in which one thing is hostile and everything around it fits, signed with the right
keys: what decides a case is the one thing that somebody did wrong.
"""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import AuthCode, CompletionCode, PurchaseStatus
from kwbp.fields import to_time
from kwbp.inquiry import InqResTBS
from kwbp.wrapper import wrap
from pki import der
from pki.cms_enveloped import SealingSuite
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_DUAL_SIGNATURE,
    CT_INQ_RES,
    CT_INVOICE,
    CT_RECEIPT,
)
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Decision, Verdict, decide
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import Conclusion, Judgement, judge
from storefront.evidence.records import Records, from_gateway_book
from tests.kwbp import forge
from tests.kwbp.world import Purchase, World
from tests.storefront.test_evidence import records_of, reseal
from tests.support.evidence_judges import ask_both
from tests.support.pki_factory import Credential, PkiFactory

UPHELD, REFUTED, UNDECIDED = Verdict.UPHELD, Verdict.REFUTED, Verdict.UNDECIDED
HOLDS, INCOMPLETE, BROKEN = Conclusion.HOLDS, Conclusion.INCOMPLETE, Conclusion.BROKEN
DENIALS = (
    Claim.BUYER_DENIES_ORDER,
    Claim.BUYER_DENIES_PAYMENT,
    Claim.MERCHANT_DENIES_PRICE,
    Claim.MERCHANT_DENIES_RESULT,
    Claim.GATEWAY_DENIES_APPROVAL,
    Claim.GATEWAY_APPROVED_UNSIGNED,
    Claim.PARTS_OF_ANOTHER_PURCHASE,
)


@dataclass
class Scene:
    """A world, a purchase in it, and another purchase of the same buyer at the same shop."""

    world: World
    purchase: Purchase
    second: Purchase

    @property
    def records(self) -> Records:
        """The merchant's."""
        return records_of(self.world, self.purchase)

    def of_buyer(self, records: Records | None = None) -> Records:
        return replace(records or self.records, auth_req=None, auth_ack=None)

    def of_gateway(self, records: Records | None = None) -> Records:
        kept = records or self.records
        documents = {
            "invoice": kept.invoice,
            "dual_signature": kept.dual_signature,
            "gateway_certificate": kept.gateway_certificate,
            "auth_res": kept.auth_res,
            "auth_ack": kept.auth_ack,
            "gateway_status": kept.gateway_status,
        }
        return from_gateway_book(
            {
                "documents": {name: b64encode(der) for name, der in documents.items() if der is not None},
                "money": [],
                "authorities": [b64encode(der) for der in kept.authorities],
                "crls": [b64encode(der) for der in kept.crls],
            }
        )

    # Records as they come out when somebody does one thing wrong, and the honest software around it goes on

    def from_order(self, order: bytes, *, envelope: bytes | None = None) -> Records:
        """Merchant and gateway carry on with another order, or with other card data."""
        body = self.purchase.auth_req.body
        envelope = envelope or self.purchase.order.pi_envelope
        request = self.by_shop(CT_AUTH_REQ, replace(body, dual_sig=order, pi_envelope=envelope))
        return self.from_answer(
            replace(self.records, dual_signature=order, pi_envelope=envelope, auth_req=request),
            h_dual_sig=der.sha256(order),
            h_auth_req=der.sha256(request),
        )

    def from_answer(self, records: Records, *, by: Credential | None = None, **changes: Any) -> Records:
        """The gateway's answer changed, acknowledged and passed on by the merchant."""
        body = replace(self.purchase.auth_res.body, **changes)
        return self.with_answer(records, forge.signed(by or self.world.gateway_signing, CT_AUTH_RES, body))

    def with_answer(self, records: Records, answer: bytes) -> Records:
        ack = self.by_shop(CT_AUTH_ACK, replace(self.purchase.auth_ack.body, h_auth_res=der.sha256(answer)))
        receipt = self.by_shop(CT_RECEIPT, replace(self.purchase.receipt.body, auth_res=answer))
        return replace(records, auth_res=answer, auth_ack=ack, receipt=receipt)

    def with_receipt(self, **changes: Any) -> Records:
        body = replace(self.purchase.receipt.body, **changes)
        return replace(self.records, receipt=self.by_shop(CT_RECEIPT, body))

    def by_shop(self, content_type: Any, body: Any) -> bytes:
        return forge.signed(self.world.shop, content_type, body)

    def told(self, status: PurchaseStatus, answer: bytes | None, *, by: Credential | None = None) -> bytes:
        """The gateway's later word, an hour after."""
        at = self.world.now + timedelta(hours=1)
        purchase = self.purchase
        result = None
        if answer is not None:
            result = wrap(CT_AUTH_RES, answer, rrpid=purchase.auth_res.body.rrpid, xid=purchase.auth_res.body.xid)
        body = InqResTBS(
            version=2,
            rrpid=self.world.rng(20),
            xid=purchase.auth_res.body.xid,
            merchant_id="M-1",
            chall=self.world.rng(32),
            h_inq_req=self.world.rng(32),
            status=status,
            result=result,
            gateway_status=None,
            date=to_time(at),
        )
        return forge.signed(by or self.world.gateway_signing, CT_INQ_RES, body, signing_time=at)


@pytest.fixture(scope="module")
def scene() -> Scene:
    world = World(PkiFactory())
    return Scene(world, world.purchase(), world.purchase())


@dataclass
class Court:
    """Writes bundles and asks both judges."""

    scene: Scene
    folder: Path

    def judge(self, records: Records, *, other: Judgement | None = None, name: str = "bundle") -> Judgement:
        out = self.folder / name
        write_bundle(records, self.scene.world.pki.root.certificate, out)
        ours = ask_both(out, other=other).ours
        assert ours is not None
        return ours


@pytest.fixture
def court(scene: Scene, tmp_path: Path) -> Court:
    return Court(scene, tmp_path)


def verdicts(judgement: Judgement, *claims: Claim) -> dict[Claim, Verdict]:
    return {claim: decide(claim, judgement.case).verdict for claim in claims}


def reasons(judgement: Judgement, claim: Claim) -> str:
    decision: Decision = decide(claim, judgement.case)
    return "; ".join(map(str, decision.reasons))


# ── An honest purchase: nobody can deny what they signed, whoever brings the bundle ───────────────────────────────────


def test_the_merchant_proves_everything(scene: Scene, court: Court) -> None:
    judged = court.judge(scene.records)
    assert judged.conclusion is HOLDS
    assert verdicts(judged, *DENIALS) == dict.fromkeys(DENIALS, REFUTED)
    others = (Claim.MERCHANT_DENIES_GOODS, Claim.MERCHANT_DENIES_CONFIRMATION, Claim.RECEIPT_IS_FORGED)
    assert verdicts(judged, *others) == dict.fromkeys(others, REFUTED)
    assert verdicts(judged, Claim.TWO_RECEIPTS, Claim.APPROVAL_WAS_REVERSED) == {
        Claim.TWO_RECEIPTS: UNDECIDED,
        Claim.APPROVAL_WAS_REVERSED: UNDECIDED,
    }


def test_the_buyer_proves_everything_without_what_the_buyer_never_sees(scene: Scene, court: Court) -> None:
    judged = court.judge(scene.of_buyer())
    assert judged.conclusion is HOLDS
    assert verdicts(judged, *DENIALS) == dict.fromkeys(DENIALS, REFUTED)
    assert "receipt carries this very answer" in reasons(judged, Claim.MERCHANT_DENIES_RESULT)
    gaps = " ".join(map(str, judged.gaps))
    assert "the bundle has no acknowledgement" in gaps
    assert "no OCSP answers" in gaps
    assert "no time-stamp" in gaps


def test_the_gateway_proves_its_part_without_knowing_the_goods(scene: Scene, court: Court) -> None:
    judged = court.judge(scene.of_gateway())
    assert judged.conclusion is INCOMPLETE
    assert verdicts(judged, *DENIALS) == dict.fromkeys(DENIALS, REFUTED)
    assert verdicts(judged, Claim.MERCHANT_DENIES_GOODS) == {Claim.MERCHANT_DENIES_GOODS: UNDECIDED}


def test_a_buyer_who_never_got_an_answer_still_proves_price_and_order(scene: Scene, court: Court) -> None:
    judged = court.judge(replace(scene.of_buyer(), auth_res=None, receipt=None))
    assert judged.conclusion is INCOMPLETE
    assert verdicts(judged, Claim.MERCHANT_DENIES_PRICE, Claim.MERCHANT_DENIES_GOODS, Claim.BUYER_DENIES_ORDER) == {
        Claim.MERCHANT_DENIES_PRICE: REFUTED,
        Claim.MERCHANT_DENIES_GOODS: REFUTED,
        Claim.BUYER_DENIES_ORDER: REFUTED,
    }
    assert verdicts(judged, Claim.GATEWAY_DENIES_APPROVAL)[Claim.GATEWAY_DENIES_APPROVAL] is UNDECIDED
    assert "the time is the one that the buyer signed" in " ".join(map(str, judged.gaps))


def test_a_merchant_who_neither_acknowledged_nor_receipted_may_not_have_got_the_result(
    scene: Scene, court: Court
) -> None:
    judged = court.judge(scene.of_gateway(replace(scene.records, auth_ack=None)))
    assert verdicts(judged, Claim.MERCHANT_DENIES_RESULT) == {Claim.MERCHANT_DENIES_RESULT: UNDECIDED}
    assert reasons(judged, Claim.MERCHANT_DENIES_RESULT) == "the bundle has nothing that would show it"


def test_a_declined_purchase_binds_nobody_to_money(scene: Scene, court: Court) -> None:
    declined = scene.world.purchase(answer={"auth_code": AuthCode.DECLINED, "rc": "51", "approval": None})
    judged = court.judge(records_of(scene.world, declined))
    assert judged.conclusion is HOLDS
    assert verdicts(
        judged, Claim.GATEWAY_DENIES_APPROVAL, Claim.MERCHANT_DENIES_CONFIRMATION, Claim.GATEWAY_APPROVED_UNSIGNED
    ) == {
        Claim.GATEWAY_DENIES_APPROVAL: UPHELD,
        Claim.MERCHANT_DENIES_CONFIRMATION: UPHELD,
        Claim.GATEWAY_APPROVED_UNSIGNED: REFUTED,
    }


# ── A colluding gateway ───────────────────────────────────────────────────────────────────────────────────────────────


def forged_order(scene: Scene) -> bytes:
    """The buyer's certificate, somebody else's key."""
    content = scene.purchase.order.dual_signature.content
    return forge.forged(CT_DUAL_SIGNATURE, content, named=scene.world.buyer, signed_by=scene.world.shop)


@pytest.mark.parametrize("whose", ["merchant", "buyer", "gateway"])
def test_a_gateway_that_approves_a_forged_order_is_bound_and_the_buyer_is_not(
    scene: Scene, court: Court, whose: str
) -> None:
    records = scene.from_order(forged_order(scene))
    judged = court.judge(
        {"merchant": records, "buyer": scene.of_buyer(records), "gateway": scene.of_gateway(records)}[whose]
    )
    assert judged.conclusion is BROKEN
    wanted = (*DENIALS[:2], Claim.GATEWAY_DENIES_APPROVAL, Claim.GATEWAY_APPROVED_UNSIGNED)
    assert verdicts(judged, *wanted) == {
        Claim.BUYER_DENIES_ORDER: UPHELD,
        Claim.BUYER_DENIES_PAYMENT: UPHELD,
        Claim.GATEWAY_DENIES_APPROVAL: REFUTED,
        Claim.GATEWAY_APPROVED_UNSIGNED: UPHELD,
    }


def test_a_merchant_alone_who_forges_an_order_is_found_by_its_own_request(scene: Scene, court: Court) -> None:
    records = replace(scene.from_order(forged_order(scene)), auth_res=None, auth_ack=None, receipt=None)
    judged = court.judge(records)
    assert verdicts(judged, Claim.BUYER_DENIES_ORDER) == {Claim.BUYER_DENIES_ORDER: UPHELD}
    assert "the merchant asked, signed, for an order" in reasons(judged, Claim.BUYER_DENIES_ORDER)


def test_card_data_sealed_anew_are_not_what_the_buyer_paid_with(scene: Scene, court: Court) -> None:
    envelope = forge.resealed(scene.world, scene.purchase, scene.world.gateway_encryption, SealingSuite.OAEP_SHA256)
    judged = court.judge(scene.from_order(scene.purchase.dual_signed, envelope=envelope))
    assert judged.conclusion is BROKEN
    assert verdicts(judged, Claim.BUYER_DENIES_ORDER, Claim.BUYER_DENIES_PAYMENT, Claim.GATEWAY_APPROVED_UNSIGNED) == {
        Claim.BUYER_DENIES_ORDER: REFUTED,
        Claim.BUYER_DENIES_PAYMENT: UPHELD,
        Claim.GATEWAY_APPROVED_UNSIGNED: UPHELD,
    }


def test_an_approval_of_another_amount_is_not_of_this_order(scene: Scene, court: Court) -> None:
    amount = replace(scene.purchase.auth_res.body.amount, amount=9_250_000)
    judged = court.judge(scene.of_buyer(scene.from_answer(scene.records, amount=amount)))
    assert judged.conclusion is BROKEN
    assert verdicts(
        judged, Claim.BUYER_DENIES_ORDER, Claim.GATEWAY_APPROVED_UNSIGNED, Claim.GATEWAY_DENIES_APPROVAL
    ) == {
        Claim.BUYER_DENIES_ORDER: REFUTED,
        Claim.GATEWAY_APPROVED_UNSIGNED: UPHELD,
        Claim.GATEWAY_DENIES_APPROVAL: REFUTED,
    }


def test_another_gateway_cannot_approve_what_was_sealed_to_this_one(scene: Scene, court: Court) -> None:
    records = scene.from_answer(scene.records, by=scene.world.other_gateway_signing)
    judged = court.judge(scene.of_buyer(records))
    assert judged.conclusion is BROKEN
    assert "another gateway than the buyer's answers" in reasons(judged, Claim.PARTS_OF_ANOTHER_PURCHASE)


# ── Receipts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

RECEIPTS: dict[str, Callable[[Scene], Records]] = {
    "an answer that the merchant signed itself": lambda scene: scene.from_answer(scene.records, by=scene.world.shop),
    "an answer in the gateway's name with another key": lambda scene: scene.with_answer(
        scene.records,
        forge.forged(
            CT_AUTH_RES,
            scene.purchase.auth_res.content,
            named=scene.world.gateway_signing,
            signed_by=scene.world.shop,
        ),
    ),
    "no answer at all": lambda scene: replace(scene.with_receipt(auth_res=b"\x30\x00"), auth_res=None, auth_ack=None),
    "the answer to another purchase": lambda scene: scene.with_answer(scene.records, scene.second.auth_res_signed),
}


@pytest.mark.parametrize("receipt", RECEIPTS)
def test_a_receipt_that_rests_on_no_answer_to_this_order_is_the_merchants_forgery(
    scene: Scene, court: Court, receipt: str
) -> None:
    judged = court.judge(scene.of_buyer(RECEIPTS[receipt](scene)))
    assert judged.conclusion is BROKEN
    assert verdicts(judged, Claim.RECEIPT_IS_FORGED, Claim.GATEWAY_DENIES_APPROVAL, Claim.BUYER_DENIES_ORDER) == {
        Claim.RECEIPT_IS_FORGED: UPHELD,
        Claim.GATEWAY_DENIES_APPROVAL: UPHELD,
        Claim.BUYER_DENIES_ORDER: REFUTED,
    }
    assert reasons(judged, Claim.RECEIPT_IS_FORGED).startswith("the merchant's receipt carries")


def test_a_receipt_that_the_merchant_never_signed_binds_nobody(scene: Scene, court: Court) -> None:
    receipt = forge.forged(
        CT_RECEIPT, scene.purchase.receipt.content, named=scene.world.shop, signed_by=scene.world.buyer
    )
    judged = court.judge(scene.of_buyer(replace(scene.records, receipt=receipt)))
    assert judged.conclusion is BROKEN
    assert verdicts(
        judged, Claim.RECEIPT_IS_FORGED, Claim.MERCHANT_DENIES_CONFIRMATION, Claim.MERCHANT_DENIES_RESULT
    ) == {
        Claim.RECEIPT_IS_FORGED: UPHELD,
        Claim.MERCHANT_DENIES_CONFIRMATION: UNDECIDED,
        Claim.MERCHANT_DENIES_RESULT: UNDECIDED,
    }


def test_a_receipt_that_confirms_what_was_declined_claims_too_much(scene: Scene, court: Court) -> None:
    judged = court.judge(scene.from_answer(scene.records, auth_code=AuthCode.DECLINED))
    assert judged.conclusion is BROKEN
    assert "claims more than the gateway said" in reasons(judged, Claim.RECEIPT_IS_FORGED)


def test_two_receipts_that_disagree_are_held_against_their_signer(scene: Scene, court: Court) -> None:
    refused = scene.with_receipt(completion_code=CompletionCode.ORDER_REJECTED, particulars_ok=False)
    other = court.judge(refused, name="other")
    judged = court.judge(scene.of_buyer(), other=other)
    assert (judged.conclusion, other.conclusion) == (HOLDS, HOLDS)
    assert decide(Claim.TWO_RECEIPTS, judged.case).verdict is UPHELD


def test_one_receipt_twice_and_receipts_of_two_purchases_do_not_disagree(scene: Scene, tmp_path: Path) -> None:
    judged = []
    for number, purchase in enumerate((scene.purchase, scene.second)):
        out = tmp_path / str(number)
        write_bundle(records_of(scene.world, purchase), scene.world.pki.root.certificate, out)
        judged.append(judge(read_folder(out)))
    one, two = judged
    for other, said in ((one, "both receipts say the same"), (two, "the two receipts are for two purchases")):
        decision = decide(Claim.TWO_RECEIPTS, replace(one.case, other=other.case))
        assert (decision.verdict, str(decision.reasons[0])) == (REFUTED, said)


# ── Parts of another purchase ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_buyer_who_shows_the_invoice_of_another_purchase_is_found(scene: Scene, court: Court) -> None:
    other = records_of(scene.world, scene.second)
    judged = court.judge(
        scene.of_buyer(replace(scene.records, invoice=other.invoice, order_details=other.order_details))
    )
    assert judged.conclusion is BROKEN
    assert verdicts(judged, Claim.PARTS_OF_ANOTHER_PURCHASE, Claim.MERCHANT_DENIES_PRICE) == {
        Claim.PARTS_OF_ANOTHER_PURCHASE: UPHELD,
        Claim.MERCHANT_DENIES_PRICE: UPHELD,
    }


def test_an_invoice_that_only_the_buyer_knows_does_not_bind_the_merchant(scene: Scene, court: Court) -> None:
    body = replace(
        scene.purchase.invoice.invoice.body, amount=replace(scene.purchase.auth_res.body.amount, amount=1_000)
    )
    invoice = forge.forged(CT_INVOICE, der.encode(body), named=scene.world.shop, signed_by=scene.world.buyer)
    dual = replace(scene.purchase.order.dual_signature.body, invoice_hash=der.sha256(invoice), amount=body.amount)
    order = forge.signed(scene.world.buyer, CT_DUAL_SIGNATURE, dual)
    records = replace(scene.of_buyer(), invoice=invoice, dual_signature=order, auth_res=None, receipt=None)
    judged = court.judge(records)
    assert verdicts(judged, Claim.MERCHANT_DENIES_PRICE) == {Claim.MERCHANT_DENIES_PRICE: UPHELD}
    assert "an invoice that the merchant did not sign" in reasons(judged, Claim.MERCHANT_DENIES_PRICE)


def test_other_lines_than_those_of_the_invoice_bind_nobody(scene: Scene, court: Court) -> None:
    other = records_of(scene.world, scene.second)
    judged = court.judge(scene.of_buyer(replace(scene.records, order_details=other.order_details)))
    assert judged.conclusion is BROKEN
    assert verdicts(judged, Claim.MERCHANT_DENIES_GOODS, Claim.MERCHANT_DENIES_PRICE) == {
        Claim.MERCHANT_DENIES_GOODS: UNDECIDED,
        Claim.MERCHANT_DENIES_PRICE: REFUTED,
    }


# ── An approval, or an open answer, that was closed later ─────────────────────────────────────────────────────────────

LATER = {
    PurchaseStatus.REVERSED: UPHELD,
    PurchaseStatus.CONCLUDED: REFUTED,
    PurchaseStatus.REVERSING: UNDECIDED,
}


@pytest.mark.parametrize("status", LATER)
def test_what_became_of_an_approval_is_said_by_the_gateway(scene: Scene, court: Court, status: PurchaseStatus) -> None:
    told = scene.told(status, scene.records.auth_res)
    judged = court.judge(replace(scene.records, auth_ack=None, receipt=None, gateway_status=told))
    assert judged.conclusion is INCOMPLETE
    assert verdicts(judged, Claim.APPROVAL_WAS_REVERSED, Claim.GATEWAY_DENIES_APPROVAL) == {
        Claim.APPROVAL_WAS_REVERSED: LATER[status],
        Claim.GATEWAY_DENIES_APPROVAL: REFUTED,
    }


def test_an_open_purchase_that_was_closed_holds_from_end_to_end(scene: Scene, court: Court) -> None:
    answer = forge.signed(
        scene.world.gateway_signing,
        CT_AUTH_RES,
        replace(scene.purchase.auth_res.body, auth_code=AuthCode.NO_REPLY, approval=None),
    )
    receipt = replace(
        scene.purchase.receipt.body,
        completion_code=CompletionCode.ORDER_RECEIVED,
        particulars_ok=False,
        auth_res=answer,
    )
    told = scene.told(PurchaseStatus.REVERSED, answer)
    records = replace(
        scene.of_buyer(), auth_res=answer, receipt=scene.by_shop(CT_RECEIPT, receipt), gateway_status=told
    )
    judged = court.judge(records)
    assert judged.conclusion is HOLDS
    assert verdicts(judged, Claim.APPROVAL_WAS_REVERSED) == {Claim.APPROVAL_WAS_REVERSED: UPHELD}


@pytest.mark.parametrize("by", ["shop", "other_gateway_signing"])
def test_a_later_word_that_is_not_the_gateways_proves_nothing(scene: Scene, court: Court, by: str) -> None:
    told = scene.told(PurchaseStatus.REVERSED, scene.records.auth_res, by=getattr(scene.world, by))
    judged = court.judge(replace(scene.records, gateway_status=told))
    assert judged.conclusion is BROKEN
    assert verdicts(judged, Claim.APPROVAL_WAS_REVERSED) == {Claim.APPROVAL_WAS_REVERSED: UNDECIDED}


# ── Whoever brings a bundle gains nothing by spoiling it ──────────────────────────────────────────────────────────────


def spoiled(scene: Scene, tmp_path: Path, spoil: Callable[[Path], None]) -> Judgement:
    out = tmp_path / "bundle"
    write_bundle(scene.records, scene.world.pki.root.certificate, out)
    spoil(out)
    reseal(out)
    ours = ask_both(out).ours
    assert ours is not None
    return ours


def break_order(bundle: Path) -> None:
    content = bytearray((bundle / "dual-signature.p7s").read_bytes())
    content[-1] ^= 1  # in the signature
    (bundle / "dual-signature.p7s").write_bytes(content)


def drop_lists(bundle: Path) -> None:
    lines = [line for line in (bundle / "digests.txt").read_text().splitlines(True) if " crls/" not in line]
    (bundle / "digests.txt").write_text("".join(lines))
    shutil.rmtree(bundle / "crls")


def show_another_buyer(bundle: Path) -> None:
    shutil.copyfile(bundle / "signers" / "merchant.pem", bundle / "signers" / "buyer.pem")


@pytest.mark.parametrize("spoil", [break_order, drop_lists, show_another_buyer])
def test_a_spoiled_bundle_decides_nothing_for_the_buyer(
    scene: Scene, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    judged = spoiled(scene, tmp_path, spoil)
    assert judged.conclusion is BROKEN
    wanted = (Claim.BUYER_DENIES_ORDER, Claim.BUYER_DENIES_PAYMENT, Claim.GATEWAY_APPROVED_UNSIGNED)
    assert verdicts(judged, *wanted) == dict.fromkeys(wanted, UNDECIDED)
