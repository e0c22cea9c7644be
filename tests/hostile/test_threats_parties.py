"""Threats by or against a person or an institution: guessers, deniers, thieves, insiders.

One test for each row of the threat table, named after it (`threats.yaml`). Where the row needs a court, a person or a
device, the docstring says what stands in for it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.exc import IntegrityError

from audit import BrokenJournalError, verify
from ca.errors import NotApprovedError
from kwbp.codes import AuthCode, ErrorCode
from kwbp.commitment import commitment_cn, pan_secret, trans_stain
from kwbp.errors import CommitmentError, ProtocolError
from kwbp.messages import DualSigTBS, PANData, PIData, PISealed
from kwbp.money import Money
from kwbp.password import PasswordBinding, build_password_request, require_bound, seal_password_request
from kwbp.structure import decode, encode
from kwbp.wallet import Card, CheckedInvoice
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.errors import RolloverError
from pki.oids import CT_DUAL_SIGNATURE, CT_INVOICE, CT_OTP_RES
from pki.rollover import check_next_root
from runtime.secrets import Secret
from runtime.settings import PasswordSettings
from shetab.types import Expiry, Pan, Pin, luhn_check_digit
from storefront.errors import LockedOut, RootRefused, WalletError, WalletLocked
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Verdict
from storefront.evidence.records import Records
from storefront.merchant.documents import Document
from storefront.merchant.store import OrderStore
from storefront.wallet import container, keys, lockout, roots
from tests.hostile.receivers import Receivers
from tests.kwbp.forge import answered, asked, changed, forged, offered, ordered, receipted, refused, requested
from tests.kwbp.world import BIN, EXPIRY, PAN, TOTAL, Purchase, World
from tests.pki.test_rollover import FIRST, FOURTH, SECOND, THIRD, root
from tests.storefront.test_evidence import records_of
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.evidence_judges import ask_both
from tests.support.payment_parties import Buyer, Shop, auth_res_of, now
from tests.support.payment_site import OPENING, Site
from tests.support.pki_factory import NOW, PkiFactory, p256

# --- card numbers -----------------------------------------------------------------------------------------------------


def guesses(count: int = 400) -> Iterator[str]:
    """Card numbers of the bank with a good check digit, the right one last: what somebody who knows the bank tries."""
    generator = random.Random(11)
    for payload in [f"{BIN}{generator.randrange(10**9):09d}" for _ in range(count)] + [PAN[:-1]]:
        yield payload + luhn_check_digit(payload)


def found(public: set[bytes], names: str, sealed: PISealed, pan_secret_guess: bytes, nonce_guess: bytes) -> list[str]:
    """The guesses that some public value confirms, to somebody who knows all of the order but the two secrets."""
    hits = []
    for guess in guesses():
        pan_data: PANData = changed(
            sealed.pan_data, {"pan": guess, "pan_secret": pan_secret_guess, "ex_nonce": nonce_guess}
        )
        plain = (guess + EXPIRY).encode()
        tries = {
            sha256(guess.encode()),
            sha256(plain),
            sha256(encode(PIData(pi_head=sealed.pi_head, pan_data=pan_data))),
            sha256(encode(replace(sealed, pan_data=pan_data))),
            hmac.digest(pan_secret_guess, plain, "sha256"),
        }
        if tries & public or any(base64.urlsafe_b64encode(each).decode().rstrip("=") in names for each in tries):
            hits.append(guess)
    return hits


def test_11_pan_guessing_from_commitments(world: World, purchase: Purchase) -> None:
    """Every public value against the card numbers of the bank: nothing is confirmed, though the right one is tried.

    Positive control: once the secrets are known, the same harness finds the card, and no other.
    """
    dual, honest = purchase.order.dual_signature.body, decode(PISealed, purchase.plaintext)
    name = world.buyer.certificate.subject.rfc4514_string()
    answer = purchase.auth_res.body
    public = {dual.h_pi_data, dual.h_oi_data, dual.h_pi_envelope, honest.pi_head.trans_stain, answer.h_dual_sig}
    for secret in (bytes(32), b"\xff" * 32, dual.xid + bytes(12)):
        assert found(public, name, honest, secret, bytes(32)) == []
    assert answer.masked_pan == "603770******0007"  # six digits less than the number: 10⁵ cards fit, by Luhn

    assert found(public, "", honest, world.pan_secret, honest.pan_data.ex_nonce) == [PAN]
    assert found(set(), name, honest, world.pan_secret, bytes(32)) == [PAN]
    for worthless in (bytes(32), b"\x07" * 32):  # and secrets that would make it so are not taken
        with pytest.raises(CommitmentError):
            commitment_cn(worthless, Pan(PAN), Expiry(EXPIRY))
        with pytest.raises(CommitmentError):
            trans_stain(worthless, dual.xid, dual.invoice_hash)


def test_12_ca_chooses_the_pan_secret(world: World) -> None:
    """A CA that sees CardSecret chooses its nonce after it. By XOR, as in SET, it would have any secret it likes."""
    card_secret = world.card_secret
    chosen: set[bytes] = set()
    for wanted in (bytes(32), b"\xff" * 32, card_secret):
        nonce = bytes(a ^ b for a, b in zip(card_secret, wanted, strict=True))
        assert bytes(a ^ b for a, b in zip(card_secret, nonce, strict=True)) == wanted
        made = pan_secret(card_secret, nonce, b"cardholder-ca-key")
        assert made != wanted
        chosen.add(made)
    assert len(chosen) == 3
    with pytest.raises(CommitmentError):
        pan_secret(bytes(32), os.urandom(32), b"cardholder-ca-key")


# --- courts -----------------------------------------------------------------------------------------------------------


def ruled(world: World, records: Records, folder: Path, *claims: Claim) -> set[Verdict]:
    """The verdicts on claims, of a bundle of these records; our judge and `verify.sh` must agree about the bundle."""
    write_bundle(records, world.pki.root.certificate, folder)
    opinions = ask_both(folder)
    return {opinions.decide(claim).verdict for claim in claims}


def of_buyer(records: Records) -> Records:
    """What the buyer holds: neither the request to the gateway nor the acknowledgement pass through their hands."""
    return replace(records, auth_req=None, auth_ack=None)


def test_19_buyer_denies_ordering(world: World, purchase: Purchase, tmp_path: Path) -> None:
    """Stand-in for the court: both judges of a bundle. The merchant's proves the order; a forged one proves nothing."""
    records = records_of(world, purchase)
    assert ruled(world, records, tmp_path / "honest", Claim.BUYER_DENIES_ORDER) == {Verdict.REFUTED}
    content = purchase.order.dual_signature.content
    order = forged(CT_DUAL_SIGNATURE, content, named=world.buyer, signed_by=world.shop)
    alone = replace(records, dual_signature=order, auth_req=None, auth_res=None, auth_ack=None, receipt=None)
    assert Verdict.REFUTED not in ruled(world, alone, tmp_path / "forged", Claim.BUYER_DENIES_ORDER)


def test_20_gateway_denies_approving(world: World, purchase: Purchase, tmp_path: Path) -> None:
    """Stand-in for the court: both judges. Merchant and buyer can each prove it alone; of a decline nobody can."""
    records = records_of(world, purchase)
    claim = Claim.GATEWAY_DENIES_APPROVAL
    assert ruled(world, records, tmp_path / "merchant", claim) == {Verdict.REFUTED}
    assert ruled(world, of_buyer(records), tmp_path / "buyer", claim) == {Verdict.REFUTED}
    declined = world.purchase(answer={"auth_code": AuthCode.DECLINED, "rc": "51", "approval": None})
    assert ruled(world, records_of(world, declined), tmp_path / "declined", claim) == {Verdict.UPHELD}


def test_21_merchant_denies_offer_or_price(world: World, purchase: Purchase, tmp_path: Path) -> None:
    """Stand-in for the court: both judges. The buyer holds the signed invoice; one of a stranger's making is none."""
    records = of_buyer(records_of(world, purchase))
    claims = (Claim.MERCHANT_DENIES_PRICE, Claim.MERCHANT_DENIES_GOODS)
    assert ruled(world, records, tmp_path / "buyer", *claims) == {Verdict.REFUTED}
    invented = forged(CT_INVOICE, purchase.invoice.invoice.content, named=world.shop, signed_by=world.buyer)
    alone = replace(records, invoice=invented, auth_res=None, receipt=None)
    assert Verdict.REFUTED not in ruled(world, alone, tmp_path / "forged", *claims)


# --- identifiers ------------------------------------------------------------------------------------------------------


def test_29_xid_collision_or_guess(world: World, purchase: Purchase, tmp_path: Path) -> None:
    """160 random bits do not collide; a generator that repeats itself is stopped by the merchant's order book."""
    drawn = {world.offer(purchase.checked_request, rng=os.urandom).invoice.body.xid for _ in range(500)}
    assert len(drawn) == 500
    assert {len(xid) for xid in drawn} == {20}
    assert all(sum(xid[byte] >> bit & 1 for xid in drawn) in range(150, 351) for byte in range(20) for bit in range(8))

    stuck = [world.offer(purchase.checked_request, rng=lambda size: b"\x07" * size) for _ in range(2)]
    xids = [draft.invoice.body.xid for draft in stuck]
    assert xids[0] == xids[1]
    book = OrderStore.open(tmp_path / "merchant.sqlite")

    async def issue(number: int) -> None:
        await book.create(
            xid=xids[number], rrpid=bytes([number]) * 20, h_request=bytes([number]) * 32, amount=TOTAL,
            stored={Document.INVOICE: b"invoice"}, now=NOW,
        )  # fmt: skip

    try:
        asyncio.run(issue(0))
        with pytest.raises(IntegrityError):
            asyncio.run(issue(1))
        first = book.find(xids[0])
        assert first is not None
        assert first.rrpid == bytes(20)
    finally:
        book.close()


class Told:
    """A buyer who asks for a one-time password for an invoice and types what comes."""

    def __init__(self, site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
        self.site, self.gateway, self.shop, self.buyer = site, gateway, shop, buyer

    def ask(self, invoice: CheckedInvoice) -> Pin:
        draft = build_password_request(invoice, self.buyer.card, rrpid=os.urandom(20), now=now(), rng=os.urandom)
        signed = self.buyer.credential.sign(draft.content_type, draft.content, signing_time=now())
        sent = seal_password_request(draft, signed, invoice.gateway, rng=os.urandom)
        answer = self.shop.post(self.gateway, "/v1/password", sent.message).content
        assert unwrap(answer, expected=(CT_OTP_RES,)).xid == invoice.invoice.xid
        return Pin.parse(self.site.switch.admin.messages(self.buyer.issued.card_id)[-1].password)

    def types(self, password: Pin) -> Card:
        return replace(self.buyer.card, pin2=password)

    def pay(self, shop: Shop, card: Card | Callable[[CheckedInvoice], Card], amount: int = 150_000) -> AuthCode:
        """What the gateway says of an order that offers this card."""
        purchase = self.site.purchase(shop, self.buyer, amount, card=card)
        return auth_res_of(shop.collect(self.gateway, purchase)).auth_code


def test_32_one_time_password_used_elsewhere(
    site: Site, gateway: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that its holder was talked out of: at another shop, for another amount, a second time, too late."""
    buyer, other = site.buyer(), site.new_shop()
    site.register(gateway, other)
    site.switch.admin.set_static_pin2(buyer.issued.card_id, False)
    told, spent = Told(site, gateway, shop, buyer), []

    def honest(invoice: CheckedInvoice) -> Card:
        spent.append(told.ask(invoice))
        return told.types(spent[-1])

    def fresh() -> Pin:
        """A password for an invoice of the first shop that is not ordered."""
        asked: list[Pin] = []

        def ask(invoice: CheckedInvoice) -> Card:
            asked.append(told.ask(invoice))
            return buyer.card

        site.purchase(shop, buyer, card=ask)
        return asked[0]

    assert told.pay(shop, honest) is AuthCode.APPROVED
    paid = buyer.balance
    assert paid == OPENING - 150_000
    assert told.pay(shop, told.types(spent[0])) is AuthCode.DECLINED  # a second time
    assert told.pay(other, told.types(fresh())) is AuthCode.DECLINED  # at M2
    site.switch.admin.unblock_card(buyer.issued.card_id)  # two wrong tries; a third would block it

    def cheap(invoice: CheckedInvoice) -> Card:
        """The buyer was made to ask for one rial, and the code is used for the whole amount."""
        less = replace(invoice, invoice=replace(invoice.invoice, amount=Money.rial(1)))
        return told.types(told.ask(less))

    assert told.pay(shop, cheap) is AuthCode.DECLINED
    rules = site.switch.processor._rules
    at_once = PasswordSettings(lifetime=timedelta(microseconds=1))
    monkeypatch.setattr(site.switch.processor, "_rules", replace(rules, passwords=at_once))
    assert told.pay(shop, honest) is AuthCode.DECLINED  # too late
    assert buyer.balance == paid


def test_the_rule_by_which_a_password_is_judged(world: World, purchase: Purchase, other: Purchase) -> None:
    dual = purchase.order.dual_signature.body
    given = PasswordBinding(dual.xid, dual.merchant_id, dual.amount, world.now + timedelta(minutes=2))

    def use(order: DualSigTBS, *, now: datetime = world.now) -> None:
        require_bound(given, xid=order.xid, merchant_id=order.merchant_id, amount=order.amount, now=now)

    use(dual)
    with refused(ErrorCode.INVOICE_MISMATCH, "P8"):
        use(changed(dual, {"merchant_id": "M-2"}))
    with refused(ErrorCode.INVOICE_MISMATCH, "P8"):
        use(other.order.dual_signature.body)
    for difference in (-1, 1):
        amount = Money.rial(dual.amount.amount + difference)
        with refused(ErrorCode.AMOUNT_MISMATCH, "P8"):
            use(changed(dual, {"amount": amount}))
    with refused(ErrorCode.INVOICE_EXPIRED, "P8"):
        use(dual, now=given.valid_until)


# --- thieves and insiders ---------------------------------------------------------------------------------------------

_LEAST_MEMORY_KIB: Final = 19 * 1024
"""What OWASP's password storage cheat sheet asks of Argon2id at least, with two passes."""


def test_34_wallet_key_theft(tmp_path: Path) -> None:
    """Stand-in for the thief's hardware: what one guess costs is read from the file, and cannot be lowered in it.

    On the owner's machine guesses wait longer and longer, and a record of them that is put back or removed does not
    shorten that; a thief who takes the file away has no such record, and pays the cost of each guess. A key in a
    PKCS#11 token is not in the file at all (tests/cli/test_wallet_token.py).
    """
    path = tmp_path / "wallet.kwbp"
    container.create(path, Secret(b"correct horse"), {"cards": [{"label": "mehr", "pan": PAN}]})
    line, _, rest = path.read_bytes().partition(b"\n")
    header = json.loads(line)
    assert header["memory_kib"] >= _LEAST_MEMORY_KIB
    assert header["passes"] >= 2
    assert PAN.encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    told = set()
    for wrong in (b"", b"correct horse "):
        with pytest.raises(WalletLocked) as refusal:
            container.read(path, Secret(wrong))
        told.add(str(refusal.value))
    for cheaper in ({"memory_kib": 8}, {"memory_kib": header["memory_kib"] // 2}, {"passes": 1}):
        path.write_bytes(json.dumps(header | cheaper, sort_keys=True, separators=(",", ":")).encode() + b"\n" + rest)
        with pytest.raises(WalletLocked) as refusal:
            container.read(path, Secret(b"correct horse"))
        told.add(str(refusal.value))
    assert len(told) == 1
    other = tmp_path / "other.kwbp"
    container.create(other, Secret(b"correct horse"), {})
    assert json.loads(other.read_bytes().partition(b"\n")[0])["salt"] != header["salt"]  # no table serves two wallets

    tries = tmp_path / "other.kwbp.tries"
    fresh = tries.read_bytes()
    for _ in range(lockout.FREE):
        with pytest.raises(WalletLocked):
            container.read(other, Secret(b"guess"))
    for meddle in (lambda: None, lambda: tries.write_bytes(fresh), tries.unlink):
        meddle()
        for passphrase in (b"guess", b"correct horse"):
            with pytest.raises(LockedOut):
                container.read(other, Secret(passphrase))

    entry = keys.key_in_token(keys.TokenKey(keys.TokenPlace("pkcs11:token=Card;object=kwbp"), p256().public_key()))
    with pytest.raises(WalletError, match="not at hand"):
        keys.private_key(entry, keys.no_tokens)


def test_35_insider_issues_a_certificate_for_anothers_card(tmp_path: Path) -> None:
    """One officer alone gets no certificate; an issuance that is taken out of the log leaves a gap that is found."""
    office = Office(PkiFactory())
    world = CaWorld(tmp_path, office)
    try:
        alone = office.decided(office.merchant_case(), "vet", office.vetter)
        with pytest.raises(NotApprovedError):
            world.authority.issuance.issue(alone)
        twice = office.decided(alone, "approve", office.vetter)
        with pytest.raises(NotApprovedError):
            world.authority.issuance.issue(twice)
        unconfirmed = office.decided(office.cardholder_case().model_copy(update={"evidence": ()}), "auto", office.ra)
        with pytest.raises(NotApprovedError):
            world.authority.issuance.issue(unconfirmed)
        issued = world.authority.issuance.issue(world.approved_cardholder())["signing"]
    finally:
        world.close()
    log = tmp_path / "audit" / "ca.jsonl"
    honest = log.read_bytes()
    verify(log)
    lines = honest.splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if json.loads(line)["entry"].get("event") == "ca.issued")
    serial = f"{issued.certificate.serial_number:x}"
    assert serial in lines[number].decode().lower()
    for hidden in (lines[:number] + lines[number + 1 :], [*lines[:number], lines[number - 1], *lines[number + 1 :]]):
        log.write_bytes(b"".join(hidden))
        with pytest.raises(BrokenJournalError):
            verify(log)
    log.write_bytes(honest)
    verify(log)


def test_42_root_substitution_or_rollover_abuse(world: World, to: Receivers, purchase: Purchase) -> None:
    """Another root of the same name convinces nobody; only the one whose key the pinned root names may follow it."""
    impostor = World(PkiFactory())
    assert impostor.pki.root.certificate.subject == world.pki.root.certificate.subject
    for read, message in (
        (to.merchant_on_request, asked(world, purchase, signer=impostor.buyer)),
        (to.wallet_on_invoice, offered(world, purchase, signer=impostor.shop)),
        (to.merchant_on_order, ordered(world, purchase, signer=impostor.buyer)),
        (to.gateway, requested(world, purchase, signer=impostor.shop)),
        (to.gateway, requested(world, purchase, buyer=impostor.buyer)),
        (to.merchant_on_answer, answered(world, purchase, signer=impostor.gateway_signing)),
        (to.wallet_on_receipt, receipted(world, purchase, signer=impostor.shop)),
        (to.wallet_on_receipt, receipted(world, purchase, gateway=impostor.gateway_signing)),
    ):
        with pytest.raises(ProtocolError) as caught:
            read(message)
        assert caught.value.code is ErrorCode.INVALID_CERTIFICATE

    check_next_root(FIRST, SECOND, now=NOW)
    for pinned, candidate, known, reason in (
        (FIRST, THIRD, (SECOND,), "root_skipped"),
        (SECOND, FIRST, (), "older_root"),
        (FIRST, FIRST, (), "same_root"),
        (FIRST, root(3), (), "not_next_root"),
        (FIRST, root(1, signed_by=p256()), (), "not_self_signed"),
    ):
        with pytest.raises(RolloverError) as refusal:
            check_next_root(pinned, candidate, now=NOW, known=known)
        assert refusal.value.reason == reason

    kept = roots.first(FIRST)  # and what a wallet keeps goes the same way only
    roots.accept(kept, SECOND, now=NOW)
    for candidate in (FIRST, FOURTH, root(2, signed_by=p256())):
        with pytest.raises(RootRefused):
            roots.accept(kept, candidate, now=NOW)
    assert roots.drop_older(kept) == (FIRST,)
    assert roots.following(kept, [FIRST, FOURTH], NOW) == []
    with pytest.raises(RootRefused):
        roots.accept(kept, FIRST, now=NOW)
    assert roots.pinned(kept) == (SECOND,)
