"""The order with two signatures: the wallet makes it when it signs, both sides keep it, and nothing hangs on it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.contract import DualLink, build_contract, check_contract, message_of, require_same_order
from kwbp.messages import DualSigTBS, InvoiceTBS
from kwbp.structure import encode
from kwbp.wrapper import wrap
from pki import cms_signed
from pki.oids import CT_DUAL_SIGNATURE, CT_INVOICE, MT_CONTRACT
from storefront.errors import NoMessage
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import from_merchant, from_wallet
from storefront.evidence.statements import About
from storefront.exchange import post
from storefront.merchant.documents import Document
from storefront.wallet import purchase as wallet
from storefront.wallet.purchase import PurchaseState
from tests.storefront.test_receipt_ack import bought
from tests.support.evidence_judges import ask_both
from tests.support.payment_parties import now
from tests.support.payment_site import Site
from tests.support.shop_front import Customer, Front

PATH = "/kwbp/contract"


def kept(front: Front, xid: bytes) -> bytes | None:
    return front.document(xid, Document.CONTRACT)


def test_both_sides_keep_one_file_that_both_have_signed_and_prove_by_it(
    site: Site, front: Front, customer: Customer, purchases: Path, tmp_path: Path
) -> None:
    with front.serving():
        outcome = bought(front, customer, purchases)
        folder = purchases / outcome.xid.hex()
        contract = (folder / "contract.p7s").read_bytes()
        assert kept(front, outcome.xid) == contract
        assert front.post(PATH, message_of(contract)).status_code == 204  # and again
        with front.http(site.tls("operator")) as client:
            records = from_merchant(client.get(f"/orders/{outcome.xid.hex()}/evidence").json())
    for whose, kept_by in (("merchant", records), ("buyer", from_wallet(folder))):
        write_bundle(kept_by, site.pki.root.certificate, tmp_path / f"bundle-{whose}")
        judged = ask_both(tmp_path / f"bundle-{whose}").ours
        assert judged is not None
        assert judged.statements[About.CONTRACT].proven
    found = check_contract(contract, trust=site.pki.trust(now()), now=now())
    invoice = read_signed(InvoiceTBS, CT_INVOICE, (folder / "invoice.p7s").read_bytes())
    assert (encode(found.invoice), found.buyer) == (encode(invoice.body), customer.card.certificate)
    order = (folder / "dual-signature.p7s").read_bytes()
    require_same_order(found, read_signed(DualSigTBS, CT_DUAL_SIGNATURE, order))


def test_the_first_one_stays_however_many_follow_and_none_is_larger_than_a_message(
    site: Site, front: Front, customer: Customer, purchases: Path
) -> None:
    """The buyer can sign the same again and again, each time with other bytes."""
    with front.serving():
        outcome = bought(front, customer, purchases)
        folder = purchases / outcome.xid.hex()
        first, offer = (folder / "contract.p7s").read_bytes(), (folder / "invoice.p7s").read_bytes()
        dual = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, (folder / "dual-signature.p7s").read_bytes()).body
        half = cms_signed.sign(
            CT_INVOICE,
            encode(read_signed(InvoiceTBS, CT_INVOICE, offer).body),
            key=customer.card.key,
            signer=customer.card.certificate,
            chain=customer.card.chain,
            signing_time=now(),
            further=DualLink.of(dual).attribute,
        )
        another = build_contract(offer, half)
        assert another != first
        for _ in range(3):
            assert front.post(PATH, message_of(another)).status_code == 204
        huge = message_of(another) + bytes(300_000)
        assert front.post(PATH, huge).status_code != 204
        assert kept(front, outcome.xid) == first


def test_a_contract_that_was_lost_is_handed_over_by_the_next_resume(
    front: Front, customer: Customer, purchases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(client: httpx.Client, path: str, message: bytes) -> object:
        if path == PATH:
            raise NoMessage("ConnectError")
        return post(client, path, message)

    with front.serving():
        with monkeypatch.context() as patched:
            patched.setattr(wallet, "post", lost)
            outcome = bought(front, customer, purchases)
        assert (outcome.state, kept(front, outcome.xid)) == (PurchaseState.PAID, None)
        with customer.shopping(front, purchases) as buyer:
            assert buyer.resume(outcome.xid).state is PurchaseState.PAID
        assert kept(front, outcome.xid) == (purchases / outcome.xid.hex() / "contract.p7s").read_bytes()


def test_a_wallet_that_made_none_has_its_receipt_all_the_same(
    front: Front, customer: Customer, purchases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with front.serving():
        with monkeypatch.context() as patched:
            patched.setattr(wallet.Buyer, "_hand_over", lambda *_: None)
            outcome = bought(front, customer, purchases)
        (purchases / outcome.xid.hex() / "contract.p7s").unlink()
        with customer.shopping(front, purchases) as buyer:
            assert buyer.resume(outcome.xid).state is PurchaseState.PAID
        assert kept(front, outcome.xid) is None


def test_what_is_no_contract_of_this_order_is_refused_and_not_kept(
    site: Site, front: Front, customer: Customer, purchases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with front.serving():
        with monkeypatch.context() as patched:
            patched.setattr(wallet.Buyer, "_hand_over", lambda *_: None)
            outcome = bought(front, customer, purchases)
        folder = purchases / outcome.xid.hex()
        offer = (folder / "invoice.p7s").read_bytes()
        invoice = read_signed(InvoiceTBS, CT_INVOICE, offer).body
        dual = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, (folder / "dual-signature.p7s").read_bytes()).body
        honest, stranger = DualLink.of(dual), Customer.of(site)
        other = DualLink(h_pi_data=bytes(32), h_oi_data=dual.h_oi_data, h_pi_envelope=dual.h_pi_envelope)
        for by, link, code in (
            (stranger, honest, ErrorCode.ROLE_NOT_ALLOWED),
            (customer, other, ErrorCode.HASH_MISMATCH),
        ):
            half = cms_signed.sign(
                CT_INVOICE,
                encode(invoice),
                key=by.card.key,
                signer=by.card.certificate,
                chain=by.card.chain,
                signing_time=now(),
                further=link.attribute,
            )
            told = front.refused(PATH, message_of(build_contract(offer, half))).body
            assert (told.error_code, told.clause) == (code, "M7")
        for xid in (bytes(20), None):
            told = front.refused(PATH, wrap(MT_CONTRACT, b"\x30\x00", rrpid=bytes(20), xid=xid)).body
            assert (told.error_code, told.clause) == (ErrorCode.UNKNOWN_XID, "M2")
        assert kept(front, outcome.xid) is None
