"""The wallet's judgement: what it signs, what it believes, what it writes down, and what it never writes down."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceMessage, OrderDetails
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, unwrap, wrap
from pki import der
from pki.oids import CT_ERROR, CT_RECEIPT, MT_INVOICE
from runtime import logging
from runtime.secrets import Secret
from storefront.errors import RefusedByShop, ShopUnreachable, WalletError
from storefront.wallet import wallet
from storefront.wallet.purchase import Buyer, PurchaseState, is_open
from storefront.wallet.purchase import purchases as listed
from storefront.wallet.wallet import Wallet
from tests.support.payment_site import ACQUIRER, OPENING, Site, now
from tests.support.pki_factory import PkiFactory, rsa_key
from tests.support.shop_front import BASKET, TOTAL, Customer, Front

Meddle = Callable[[httpx.Request, bytes], bytes]


class Between(httpx.BaseTransport):
    """Somebody between wallet and shop, inside the TLS: sees each answer, gives what they like instead."""

    def __init__(self, real: httpx.BaseTransport) -> None:
        self._real = real
        self.meddle: Meddle | None = None
        self.lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._real.handle_request(request)
        content = response.read()
        response.close()
        if self.lost:
            self.lost -= 1
            raise httpx.ReadError("connection lost")
        if self.meddle is not None:
            content = self.meddle(request, content)
        return httpx.Response(200, content=content, headers={"content-type": MEDIA_TYPE})

    def close(self) -> None:
        self._real.close()


@pytest.fixture
def serving(front: Front) -> Iterator[Front]:
    with front.serving():
        yield front


@pytest.fixture
def between(serving: Front, customer: Customer, purchases: Path) -> Iterator[tuple[Buyer, Between]]:
    """A buyer, and who stands between them and the shop."""
    with customer.shopping(serving, purchases) as buyer:
        meddler = Between(buyer._shop._transport)
        buyer._shop._transport = meddler
        yield buyer, meddler


def offer(answer: bytes) -> InvoiceMessage:
    return decode(InvoiceMessage, unwrap(answer, expected=(MT_INVOICE,)).body)


def offered(answer: bytes, **changes: Any) -> bytes:
    """The invoice message with other parts."""
    message = unwrap(answer, expected=(MT_INVOICE,))
    body = replace(offer(answer), **changes)
    return wrap(MT_INVOICE, der.encode(body), rrpid=message.rrpid, xid=message.xid)


def dearer(answer: bytes) -> bytes:
    details = decode(OrderDetails, offer(answer).order_details)
    details.lines[0].name = "Another book"
    return offered(answer, order_details=der.encode(details))


def one_rial_more(answer: bytes) -> bytes:
    honest, higher = der.encode(TOTAL), der.encode(TOTAL + 1)
    assert honest in answer
    return answer.replace(honest, higher)


# --- invoices ---


INVOICES: dict[str, tuple[Callable[[Site, bytes], bytes], ErrorCode, str]] = {
    "one rial more": (lambda site, answer: one_rial_more(answer), ErrorCode.SIGNATURE_FAILURE, "K6"),
    "other goods": (lambda site, answer: dearer(answer), ErrorCode.HASH_MISMATCH, "W2"),
    "truncated": (lambda site, answer: answer[:-1], ErrorCode.DECODING_FAILURE, "K1"),
    "trailing byte": (lambda site, answer: answer + b"\0", ErrorCode.DECODING_FAILURE, "K1"),
    "a fake gateway": (
        lambda site, answer: offered(
            answer,
            gateway_certificate=PkiFactory(now=site.pki.now).gateway_encryption("GW-1", acquirer_bin=ACQUIRER).der,
        ),
        ErrorCode.INVALID_CERTIFICATE,
        "W6",
    ),
    "another gateway of the same hierarchy": (
        lambda site, answer: offered(
            answer,
            gateway_certificate=site.pki.gateway_encryption("GW-1", acquirer_bin=ACQUIRER, key=rsa_key(1)).der,
        ),
        ErrorCode.GATEWAY_MISMATCH,
        "W6",
    ),
    "a merchant as gateway": (
        lambda site, answer: offered(answer, gateway_certificate=site.pki.merchant("M-6").der),
        ErrorCode.ROLE_NOT_ALLOWED,
        "W6",
    ),
}


@pytest.mark.parametrize("name", INVOICES)
def test_a_tampered_invoice_is_refused_before_anything_is_signed(
    site: Site, between: tuple[Buyer, Between], purchases: Path, name: str
) -> None:
    tamper, code, check = INVOICES[name]
    buyer, meddler = between
    meddler.meddle = lambda _request, answer: tamper(site, answer)
    with pytest.raises(ProtocolError) as caught:
        buyer.request_invoice(BASKET)
    assert (caught.value.code, caught.value.check) == (code, check)
    assert not purchases.exists()


def test_an_invoice_of_another_request_is_refused(between: tuple[Buyer, Between]) -> None:
    buyer, meddler = between
    kept: list[bytes] = []
    meddler.meddle = lambda _request, answer: kept.append(answer) or answer  # type: ignore[func-returns-value]
    buyer.request_invoice(BASKET)
    meddler.meddle = lambda _request, _answer: kept[0]
    with pytest.raises(ProtocolError) as caught:
        buyer.request_invoice(BASKET)
    assert (caught.value.code, caught.value.check) == (ErrorCode.CHALLENGE_MISMATCH, "W1")


def test_a_shop_at_another_address_than_its_certificate_names_is_refused(
    serving: Front, customer: Customer, purchases: Path
) -> None:
    with customer.shopping(serving, purchases, origin="https://b00kshop.example") as buyer:
        with pytest.raises(ProtocolError) as caught:
            buyer.request_invoice(BASKET)
    assert (caught.value.code, caught.value.check) == (ErrorCode.INVALID_CERTIFICATE, "W5")


def test_a_merchant_revoked_a_moment_ago_is_refused(
    site: Site, serving: Front, customer: Customer, purchases: Path
) -> None:
    with customer.shopping(serving, purchases) as buyer:
        checked = buyer.request_invoice(BASKET)
        site.pki.revoke(serving.credential)
        site.publish()
        with pytest.raises(ProtocolError) as caught:
            buyer.request_invoice(BASKET)
        assert (caught.value.code, caught.value.check) == (ErrorCode.REVOKED_CERTIFICATE, "K5")
        # Revoked between invoice and order: the gateway refuses, and what the merchant signs is believed no more.
        with pytest.raises(ProtocolError) as late:
            buyer.order(checked, **customer.typed)
        assert late.value.code is ErrorCode.REVOKED_CERTIFICATE
    (kept,) = listed(purchases)
    assert kept.state is PurchaseState.SIGNED
    assert (customer.balance, serving.debits()) == (OPENING, 0)


def test_a_merchant_that_may_not_sell_online_is_refused(
    make_front: Callable[..., Front], customer: Customer, purchases: Path
) -> None:
    front = make_front(online=False)
    with front.serving(), customer.shopping(front, purchases) as buyer, pytest.raises(ProtocolError) as caught:
        buyer.request_invoice(BASKET)
    assert (caught.value.code, caught.value.check) == (ErrorCode.NOT_ONLINE_MERCHANT, "W4")


# --- orders and receipts ---


def test_an_order_whose_answer_is_lost_is_resumed_with_the_same_bytes(
    between: tuple[Buyer, Between], serving: Front, customer: Customer, purchases: Path
) -> None:
    buyer, meddler = between
    checked = buyer.request_invoice(BASKET)
    meddler.lost = 2
    with pytest.raises(ShopUnreachable):
        buyer.order(checked, **customer.typed)
    sent = (purchases / checked.invoice.xid.hex() / "order.kwbp").read_bytes()
    assert [each.state for each in listed(purchases)] == [PurchaseState.SIGNED]
    with pytest.raises(ShopUnreachable):
        buyer.resume(checked.invoice.xid)
    outcome = buyer.resume(checked.invoice.xid)
    assert outcome.state is buyer.resume(outcome.xid).state is PurchaseState.PAID
    assert (purchases / outcome.xid.hex() / "order.kwbp").read_bytes() == sent
    assert serving.line.count("/v1/auth") == 1
    assert (customer.balance, serving.debits()) == (OPENING - TOTAL, 1)


def test_the_order_is_on_the_disk_before_it_leaves(
    between: tuple[Buyer, Between], customer: Customer, purchases: Path
) -> None:
    buyer, meddler = between
    checked = buyer.request_invoice(BASKET)
    seen: list[tuple[PurchaseState, bytes]] = []

    def look(request: httpx.Request, answer: bytes) -> bytes:
        if request.url.path != "/kwbp/purchase":
            return answer
        (kept,) = listed(purchases)
        folder = purchases / kept.xid.hex()
        seen.append((kept.state, (folder / "order.kwbp").read_bytes()))
        assert seen[0][1] == request.read()
        return answer

    meddler.meddle = look
    buyer.order(checked, **customer.typed)
    assert [state for state, _ in seen] == [PurchaseState.SIGNED]


def test_an_invoice_is_ordered_once(between: tuple[Buyer, Between], customer: Customer, purchases: Path) -> None:
    buyer, _ = between
    checked = buyer.request_invoice(BASKET)
    buyer.order(checked, **customer.typed)
    before = sorted(purchases.rglob("*"))
    with pytest.raises(WalletError, match="ordered before"):
        buyer.order(checked, **customer.typed)
    assert sorted(purchases.rglob("*")) == before


def refusal(site: Site, sign: Callable[[Any], bytes], code: ErrorCode = ErrorCode.INVOICE_EXPIRED) -> Meddle:
    """An Error in place of the answer."""

    def meddle(request: httpx.Request, _answer: bytes) -> bytes:
        draft = build_error(ProtocolError(code, "M2", "as told"), refused=request.read(), now=now())
        return wrap(CT_ERROR, sign(draft), rrpid=draft.rrpid, xid=draft.xid)

    return meddle


def by(credential: Any) -> Callable[[Any], bytes]:
    return lambda draft: credential.sign(draft.content_type, draft.content, signing_time=now())


@pytest.mark.parametrize("who", ["nobody", "another merchant"])
def test_an_error_that_is_not_the_shops_ends_nothing(
    site: Site, between: tuple[Buyer, Between], customer: Customer, purchases: Path, who: str
) -> None:
    """Else whoever stands between could make a buyer pay twice: once unknowingly, once more elsewhere."""
    sign = by(site.pki.merchant("M-5", acquirer_bin=ACQUIRER)) if who == "another merchant" else lambda d: d.content
    buyer, meddler = between
    checked = buyer.request_invoice(BASKET)
    meddler.meddle = refusal(site, sign)
    with pytest.raises(ShopUnreachable):
        buyer.order(checked, **customer.typed)
    with pytest.raises(ShopUnreachable):
        buyer.request_invoice(BASKET)
    assert [each.state for each in listed(purchases)] == [PurchaseState.SIGNED]
    meddler.meddle = None
    assert buyer.resume(checked.invoice.xid).state is PurchaseState.PAID


def test_what_a_receipt_settled_stays_settled(
    site: Site, between: tuple[Buyer, Between], serving: Front, customer: Customer, purchases: Path
) -> None:
    buyer, meddler = between
    outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    meddler.meddle = refusal(site, by(serving.credential))
    with pytest.raises(RefusedByShop):
        buyer.resume(outcome.xid)
    assert [each.state for each in listed(purchases)] == [PurchaseState.PAID]
    assert not (purchases / outcome.xid.hex() / "error.p7s").exists()


def test_a_refused_order_may_still_be_paid_and_the_wallet_then_says_so(
    site: Site, between: tuple[Buyer, Between], serving: Front, customer: Customer, purchases: Path
) -> None:
    """A shop that says no and collects: its signed no is kept beside the receipt."""
    buyer, meddler = between
    checked = buyer.request_invoice(BASKET)
    meddler.meddle = refusal(site, by(serving.credential))
    refused = buyer.order(checked, **customer.typed)
    assert refused.refusal is not None
    assert (refused.state, refused.refusal.check) == (PurchaseState.REFUSED, "M2")
    meddler.meddle = None
    assert buyer.resume(checked.invoice.xid).state is PurchaseState.PAID
    assert (purchases / checked.invoice.xid.hex() / "error.p7s").exists()


def test_after_an_approval_that_came_too_late_no_refusal_says_that_no_money_moved(
    site: Site, between: tuple[Buyer, Between], serving: Front, customer: Customer, purchases: Path
) -> None:
    """Only the gateway knows whether it was given back; as long as its word is not to be had, the purchase is open."""
    buyer, meddler = between
    checked = buyer.request_invoice(BASKET)
    meddler.meddle = refusal(site, by(serving.credential), ErrorCode.ACK_TIMEOUT)
    assert buyer.order(checked, **customer.typed).state is PurchaseState.PENDING
    late = (purchases / checked.invoice.xid.hex() / "error.p7s").read_bytes()
    meddler.meddle = refusal(site, by(serving.credential), ErrorCode.UNKNOWN_XID)
    for _ in range(2):
        outcome = buyer.resume(checked.invoice.xid)
        assert outcome.refusal is not None
        assert (outcome.state, outcome.refusal.code) == (PurchaseState.PENDING, ErrorCode.UNKNOWN_XID)
    assert (purchases / checked.invoice.xid.hex() / "error.p7s").read_bytes() == late
    meddler.meddle = None
    assert buyer.resume(checked.invoice.xid).state is PurchaseState.PAID


def test_a_check_that_the_wallet_does_not_know_is_no_reason_to_stumble(
    site: Site, between: tuple[Buyer, Between], serving: Front
) -> None:
    def meddle(request: httpx.Request, _answer: bytes) -> bytes:
        honest = build_error(ProtocolError(ErrorCode.BCI_STALE, "K5", "as told"), refused=request.read(), now=now())
        content = der.encode(replace(honest.body, clause="Z99"))
        signed = serving.credential.sign(CT_ERROR, content, signing_time=now())
        return wrap(CT_ERROR, signed, rrpid=honest.rrpid, xid=honest.xid)

    buyer, meddler = between
    meddler.meddle = meddle
    with pytest.raises(RefusedByShop) as caught:
        buyer.request_invoice(BASKET)
    assert (caught.value.error.code, caught.value.error.check) == (ErrorCode.BCI_STALE, "E1")


def test_a_receipt_of_another_purchase_or_a_changed_one_is_refused(
    between: tuple[Buyer, Between], customer: Customer, purchases: Path
) -> None:
    buyer, meddler = between
    kept: list[bytes] = []
    meddler.meddle = lambda _request, answer: kept.append(answer) or answer  # type: ignore[func-returns-value]
    buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    receipt = kept[1]  # after the invoice; then come the answers to its acknowledgement and to the contract
    unwrap(receipt, expected=(CT_RECEIPT,))
    meddler.meddle = None
    checked = buyer.request_invoice((("golestan", 1),))
    meddler.meddle = lambda _request, _answer: receipt
    with pytest.raises(ProtocolError):
        buyer.order(checked, **customer.typed)
    meddler.meddle = lambda _request, answer: answer[:-9] + bytes([answer[-9] ^ 1]) + answer[-8:]
    with pytest.raises(ProtocolError):
        buyer.resume(checked.invoice.xid)
    states = {each.xid: each.state for each in listed(purchases)}
    assert states[checked.invoice.xid] is PurchaseState.SIGNED
    meddler.meddle = None
    assert buyer.resume(checked.invoice.xid).state is PurchaseState.PAID


@pytest.mark.parametrize("answer", [b"", b"<html>", bytes(300_000)], ids=["nothing", "text", "endless"])
def test_what_is_no_message_is_no_answer(
    between: tuple[Buyer, Between], customer: Customer, purchases: Path, answer: bytes
) -> None:
    buyer, meddler = between
    checked = buyer.request_invoice(BASKET)
    meddler.meddle = lambda _request, _answer: answer
    with pytest.raises((ShopUnreachable, ProtocolError)):
        buyer.order(checked, **customer.typed)
    assert [each.state for each in listed(purchases)] == [PurchaseState.SIGNED]


def test_open_refusals_are_those_after_which_money_may_move() -> None:
    opens = {code for code in ErrorCode if is_open(ProtocolError(code, "M10", ""))}
    assert opens == {
        ErrorCode.UNSPECIFIED_FAILURE,
        ErrorCode.UNKNOWN_OUTCOME,
        ErrorCode.ACK_TIMEOUT,
        ErrorCode.XID_ALREADY_USED,
        # the cause passes, and another copy of the order may be taken then
        ErrorCode.BCI_STALE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.MESSAGE_TOO_NEW,
    }


def test_damaged_and_missing_records_are_named(
    between: tuple[Buyer, Between], customer: Customer, purchases: Path
) -> None:
    buyer, _ = between
    with pytest.raises(WalletError, match="knows no purchase"):
        buyer.resume(bytes(20))
    xid = buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid
    record = purchases / xid.hex() / "purchase.json"
    honest = record.read_text()
    for wrong in (
        "",
        "{}",
        "[]",
        honest[:-5],
        honest.replace(str(TOTAL), '"x"'),
        json.dumps({**json.loads(honest), "a": 1}),
    ):
        record.write_text(wrong)
        with pytest.raises(WalletError, match="damaged"):
            buyer.resume(xid)
    record.write_text(json.dumps({**json.loads(honest), "origin": "https://other.example"}))
    with pytest.raises(WalletError, match=r"made at https://other\.example"):
        buyer.resume(xid)


# --- secrets ---


def forms(digits: str) -> set[bytes]:
    """How a number could look in a file."""
    packed = bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    return {digits.encode(), digits.encode().hex().encode(), packed, int(digits).to_bytes(8, "big").lstrip(b"\0")}


def test_card_data_are_in_no_file_of_the_wallet_nor_of_the_merchant_nor_in_a_log(
    site: Site, make_front: Callable[..., Front], tmp_path: Path
) -> None:
    """Two cards in one real wallet file, a purchase with each, a declined one, and a crash; then every file is read."""
    folder, passphrase = tmp_path / "wallet", Secret(b"correct horse")
    customers = {"mehr": Customer.of(site), "melli": Customer.of(site, balance=1)}
    Wallet.create(folder, passphrase, root=site.pki.root.certificate)
    for label, customer in customers.items():
        with wallet.editing(folder, passphrase) as editor:
            card = customer.bank.card
            editor.add_card(label, card.pan, card.expiry, algorithm="ec-p256")
            enrolment = editor.begin_enrolment(label, application="A", nonce_cca=bytes(range(32)), ca_key_id=b"key")
            key: Any = _Certified(enrolment.request)
            credential = site.pki.cardholder(enrolment.commitment, key=key)
            editor.finish_enrolment(label, (credential.certificate, *credential.chain))
    front = make_front()
    logging.configure("storefront", tmp_path / "log")
    states = []
    try:
        opened = Wallet.open(folder, passphrase)
        for label, customer in customers.items():
            with front.serving(), customer.shopping(front, opened.purchases) as buyer:
                buyer._card = opened.card(label)
                states.append(buyer.order(buyer.request_invoice(BASKET), **customer.typed).state)
                front.post("/kwbp/purchase", customer.bank.card.pan.reveal().encode())
    finally:
        logging.configure("tests")
    assert states == [PurchaseState.PAID, PurchaseState.DECLINED]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"wallet.kwbp", "purchase.json", "storefront.log", f"{front.name}.sqlite"} <= {path.name for path in files}
    for customer in customers.values():
        card = customer.bank.card
        assert card.pin2 is not None
        for path in files:
            content = path.read_bytes()
            for secret in (card.pan.reveal(), card.pin2.reveal()):
                assert not any(form in content for form in forms(secret) if len(form) > 4), path
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


class _Certified:
    """A public key out of a PKCS#10 request."""

    def __init__(self, request: bytes) -> None:
        self._public: Any = x509.load_der_x509_csr(request).public_key()

    def public_key(self) -> Any:
        return self._public
