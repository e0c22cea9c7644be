"""Bad input at the merchant's door: each has one thing wrong, and is refused by the protocol's own code, signed.

Nothing is stored, nothing is sent to the gateway, and the honest message is taken afterwards as if nothing had been.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from kwbp.codes import ErrorCode as E
from kwbp.error_message import read_error
from kwbp.messages import PReq
from kwbp.money import Money
from kwbp.wrapper import MEDIA_TYPE, KwbpMessage, unwrap, wrap
from pki import der
from pki.cms_enveloped import SealingSuite, seal
from pki.oids import CT_AUTH_REQ, CT_ERROR, CT_INVOICE, CT_INVOICE_REQ, CT_RECEIPT, MT_PREQ
from pki.roles import Role
from storefront.merchant.states import OrderState
from tests.kwbp import forge
from tests.support.der_surgery import indefinite, long_length, parse
from tests.support.judges import openssl
from tests.support.payment_site import ACQUIRER, OPENING, Site, now
from tests.support.pki_factory import PkiFactory, pem, rsa_key
from tests.support.shop_front import TOTAL, Customer, Front

REQUEST, PURCHASE = "/kwbp/invoice-request", "/kwbp/purchase"


@pytest.fixture(scope="module")
def front(site: Site, gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One merchant for all of this; it signs every refusal."""
    front = Front.of(site, gateway, tmp_path_factory.mktemp("merchant"))
    front.rules["signed_refusals"] = 10_000
    with front.serving():
        yield front


@pytest.fixture(scope="module")
def customer(site: Site) -> Customer:
    return Customer.of(site, balance=100 * OPENING)


class Asking:
    """An InvoiceReq, and ways to get it wrong."""

    def __init__(self, site: Site, customer: Customer) -> None:
        self.site, self.customer = site, customer
        self.draft = customer.ask()
        self.signed = self.by(customer.bank.credential)
        self.message = self.wrapped(self.signed)

    def by(self, credential: Any, *, content_type: Any = CT_INVOICE_REQ, at: timedelta = timedelta()) -> bytes:
        return credential.sign(content_type, self.draft.content, signing_time=now() + at)

    def wrapped(self, body: bytes, message_type: Any = CT_INVOICE_REQ, **header: Any) -> bytes:
        return wrap(message_type, body, **({"rrpid": self.draft.rrpid} | header))

    def with_body(self, *, at: timedelta = timedelta(), **changes: Any) -> bytes:
        """Another content, signed by the card."""
        body = forge.changed(self.draft.body, changes)
        content = der.encode(body)
        return self.wrapped(
            self.customer.bank.credential.sign(CT_INVOICE_REQ, content, signing_time=now() + at), rrpid=body.rrpid
        )

    def card(self, **changes: Any) -> bytes:
        """Signed with another certificate of the same commitment."""
        common_name = self.customer.bank.credential.certificate.subject.rfc4514_string().split("CN=")[1].split(",")[0]
        return self.wrapped(self.by(self.site.pki.cardholder(common_name, **changes)))

    def revoked(self) -> bytes:
        credential = self.site.pki.cardholder("revoked")
        self.site.pki.revoke(credential)
        self.site.publish()
        return self.wrapped(self.by(credential))


def without_attributes(signed: bytes) -> bytes:
    tree = parse(signed)
    del tree.at(1, 0, 4, 0).children[3]
    return tree.encode()


def flip(data: bytes, at: int = -5) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def header(message: bytes, **changes: Any) -> bytes:
    return der.encode(replace(der.decode(KwbpMessage, message), **changes))


def envelope_by_openssl(site: Site, cipher: str, *options: str) -> bytes:
    recipient = site.folder / "recipient.pem"
    recipient.write_bytes(pem(site.encryption.certificate))
    encrypt = ("cms", "-encrypt", "-binary", cipher, "-outform", "DER", "-recip", recipient, *options)
    return openssl(*encrypt, stdin=b"\x30\x00")


YESTERDAY, TOMORROW = timedelta(days=-2), timedelta(days=2)
UNKNOWN = x509.ObjectIdentifier("1.2.3.4.5")
Forgery = Callable[[Asking], bytes]
DER = E.DECODING_FAILURE

REQUESTS: dict[str, tuple[Forgery, E, str]] = {
    # K1: the wrapper
    "nothing": (lambda a: b"", DER, "K1"),
    "text": (lambda a: b"hello", DER, "K1"),
    "noise": (lambda a: os.urandom(2000), DER, "K1"),
    "truncated": (lambda a: a.message[:-1], DER, "K1"),
    "trailing byte": (lambda a: a.message + b"\0", DER, "K1"),
    "BER, indefinite length": (lambda a: indefinite(a.message), DER, "K1"),
    "BER, long length": (lambda a: long_length(a.message), DER, "K1"),
    "version 1": (lambda a: header(a.message, version=1), E.VERSION_TOO_OLD, "K1"),
    "version 3": (lambda a: header(a.message, version=3), E.VERSION_TOO_NEW, "K1"),
    # K2: what it says it is
    "unknown message type": (lambda a: a.wrapped(a.signed, UNKNOWN), E.MESSAGE_NOT_SUPPORTED, "K2"),
    "message for a gateway": (lambda a: a.wrapped(a.signed, CT_AUTH_REQ), E.MESSAGE_NOT_SUPPORTED, "K2"),
    "another RRPID outside": (lambda a: a.wrapped(a.signed, rrpid=bytes(20)), E.WRAPPER_MSG_MISMATCH, "K2"),
    "an XID outside": (lambda a: a.wrapped(a.signed, xid=bytes(20)), E.WRAPPER_MSG_MISMATCH, "K2"),
    # K4: the SignedData
    "body truncated": (lambda a: a.wrapped(a.signed[:-1]), DER, "K4"),
    "body with a trailing byte": (lambda a: a.wrapped(a.signed + b"\0"), DER, "K4"),
    "body in BER": (lambda a: a.wrapped(indefinite(a.signed)), DER, "K4"),
    "body with a long length": (lambda a: a.wrapped(long_length(a.signed)), DER, "K4"),
    "no signed attributes": (lambda a: a.wrapped(without_attributes(a.signed)), DER, "K4"),
    "bare content": (lambda a: a.wrapped(a.draft.content), DER, "K4"),
    "another content type": (
        lambda a: a.wrapped(a.by(a.customer.bank.credential, content_type=CT_INVOICE)),
        E.MESSAGE_NOT_SUPPORTED,
        "K4",
    ),
    "unknown content type": (
        lambda a: a.wrapped(a.by(a.customer.bank.credential, content_type=UNKNOWN)),
        E.MESSAGE_NOT_SUPPORTED,
        "K4",
    ),
    "CBC EnvelopedData": (lambda a: a.wrapped(envelope_by_openssl(a.site, "-aes-256-cbc")), DER, "K4"),
    # K5, K6: who signed
    "of another hierarchy": (
        lambda a: a.wrapped(a.by(PkiFactory(now=a.site.pki.now).cardholder("foreign"))),
        E.INVALID_CERTIFICATE,
        "K5",
    ),
    "certificate expired": (
        lambda a: a.card(not_before=now() + 3 * YESTERDAY, not_after=now() + YESTERDAY),
        E.EXPIRED_CERTIFICATE,
        "K5",
    ),
    "certificate not yet valid": (lambda a: a.card(not_before=now() + TOMORROW), E.INVALID_CERTIFICATE, "K5"),
    "certificate revoked": (Asking.revoked, E.REVOKED_CERTIFICATE, "K5"),
    "a merchant's certificate": (lambda a: a.wrapped(a.by(a.site.pki.merchant("M-7"))), E.ROLE_NOT_ALLOWED, "K5"),
    "a gateway's certificate": (lambda a: a.wrapped(a.by(a.site.pki.gateway_signing())), E.ROLE_NOT_ALLOWED, "K5"),
    "an officer's certificate": (lambda a: a.wrapped(a.by(a.site.pki.officer())), E.ROLE_NOT_ALLOWED, "K5"),
    "a service's certificate": (lambda a: a.wrapped(a.by(a.site.pki.service("ra"))), E.ROLE_NOT_ALLOWED, "K5"),
    "signature changed": (lambda a: a.wrapped(flip(a.signed)), E.SIGNATURE_FAILURE, "K6"),
    # K7: when
    "signed three minutes ago": (
        lambda a: a.with_body(at=timedelta(minutes=-3), date=now() + timedelta(minutes=-3)),
        E.MESSAGE_TOO_OLD,
        "K7",
    ),
    "signed in three minutes": (
        lambda a: a.with_body(at=timedelta(minutes=3), date=now() + timedelta(minutes=3)),
        E.MESSAGE_TOO_NEW,
        "K7",
    ),
    "dated yesterday": (lambda a: a.with_body(date=now() + YESTERDAY), E.CLOCK_SKEW, "K7"),
    # I: what is asked for
    "another brand": (lambda a: a.with_body(brand_id="Other"), E.MESSAGE_NOT_SUPPORTED, "I1"),
    "another issuer": (lambda a: a.with_body(bin="123456"), E.MESSAGE_NOT_SUPPORTED, "I2"),
    "an article not sold here": (
        lambda a: a.customer.signed(a.customer.ask(basket=[("no-such", 1)])),
        E.UNSPECIFIED_FAILURE,
        "I3",
    ),
    "more than money can say": (
        lambda a: a.customer.signed(a.customer.ask(basket=[("shahnameh", 1_000_000)])),
        E.AMOUNT_MISMATCH,
        "K1",
    ),
    "text that spoofs": (lambda a: a.with_body(ship_to="Tehran\u202e"), DER, "K1"),
    "no such language": (lambda a: a.with_body(language="<b>"), DER, "K1"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_bad_request_is_refused_and_leaves_nothing(site: Site, front: Front, customer: Customer, name: str) -> None:
    make, code, check = REQUESTS[name]
    asking = Asking(site, customer)
    with front.book() as book:
        before = book.newest(1000)
    refused = front.refused(REQUEST, make(asking)).body
    assert (refused.error_code, refused.clause) == (code, check)
    with front.book() as book:
        assert book.newest(1000) == before
    customer.accept(asking.draft, front.post(REQUEST, asking.message).content, front)


class Ordering:
    """A PReq for an invoice of the merchant, and ways to get it wrong."""

    def __init__(self, site: Site, front: Front, customer: Customer) -> None:
        self.site, self.front, self.customer = site, front, customer
        request = customer.ask()
        self.order = customer.accept(request, front.post(REQUEST, customer.signed(request)).content, front)
        self.message = customer.dual_signed(self.order)
        self.xid = self.order.oi.xid

    @property
    def preq(self) -> PReq:
        return der.decode(PReq, der.decode(KwbpMessage, self.message).body)

    def forged(self, **changes: Any) -> bytes:
        """With one thing changed, and everything around it made to fit (`tests.kwbp.forge.ordered`)."""
        world: Any = SimpleNamespace(buyer=self.customer.bank.credential)
        purchase: Any = SimpleNamespace(order=self.order)
        return forge.ordered(world, purchase, **({"signing_time": now()} | changes))

    def with_parts(self, **changes: Any) -> bytes:
        """With another part, and nothing made to fit."""
        return wrap(MT_PREQ, der.encode(replace(self.preq, **changes)), rrpid=self.order.oi.rrpid, xid=self.xid)

    def surgery(self, operate: Callable[[Any], None]) -> bytes:
        """With an envelope that was operated on, and signed by the buyer."""
        tree = parse(self.order.pi_envelope)
        operate(tree.at(1, 0))
        return self.forged(envelope=tree.encode())

    def other(self) -> Ordering:
        return Ordering(self.site, self.front, self.customer)

    def revoked(self) -> bytes:
        credential = self.site.pki.cardholder("revoked-between")
        self.site.pki.revoke(credential)
        self.site.publish()
        return self.forged(signer=credential)


def short_tag(envelope: Any) -> None:
    envelope.at(2, 1, 1, 1).content = b"\x01"
    envelope.at(3).content = envelope.at(3).content[:1]


def rial(o: Ordering, more: int) -> Money:
    return Money.rial(o.order.oi.amount.amount + more)


def money(o: Ordering, **changes: int) -> Money:
    return replace(o.order.oi.amount, **changes)


def resealed(o: Ordering) -> bytes:
    """Sealed to another gateway's certificate."""
    other = o.site.pki.gateway_encryption("GW-1", acquirer_bin=ACQUIRER, key=rsa_key(1))
    return seal(b"\x30\x00", other.certificate, SealingSuite.OAEP_SHA1, rng=os.urandom)


def stronger(o: Ordering) -> bytes:
    """Sealed to the gateway, with a suite that its certificate does not name."""
    return seal(b"\x30\x00", o.site.encryption.certificate, SealingSuite.OAEP_SHA256, rng=os.urandom)


ORDERS: dict[str, tuple[Callable[[Ordering], bytes], E, str]] = {
    "truncated": (lambda o: o.message[:-1], DER, "K1"),
    "trailing byte": (lambda o: o.message + b"\0", DER, "K1"),
    "BER": (lambda o: indefinite(o.message), DER, "K1"),
    "body in BER": (
        lambda o: header(o.message, body=indefinite(unwrap(o.message, expected=[MT_PREQ]).body)),
        DER,
        "K1",
    ),
    "body truncated": (lambda o: header(o.message, body=der.encode(o.preq)[:-1]), DER, "K1"),
    "as an invoice request": (lambda o: header(o.message, msg_type=CT_INVOICE_REQ), DER, "K4"),
    "as a receipt": (lambda o: header(o.message, msg_type=CT_RECEIPT), E.MESSAGE_NOT_SUPPORTED, "K2"),
    "another RRPID outside": (lambda o: header(o.message, rrpid=bytes(20)), E.WRAPPER_MSG_MISMATCH, "K2"),
    "another XID outside": (lambda o: header(o.message, xid=bytes(20)), E.WRAPPER_MSG_MISMATCH, "K2"),
    "no XID outside": (lambda o: header(o.message, xid=None), E.WRAPPER_MSG_MISMATCH, "K2"),
    # the objects inside
    "dual signature truncated": (lambda o: o.with_parts(dual_sig=o.preq.dual_sig[:-1]), DER, "K4"),
    "dual signature with a trailing byte": (lambda o: o.with_parts(dual_sig=o.preq.dual_sig + b"\0"), DER, "K4"),
    "dual signature without attributes": (
        lambda o: o.with_parts(dual_sig=without_attributes(o.preq.dual_sig)),
        DER,
        "K4",
    ),
    "dual signature of another type": (
        lambda o: o.with_parts(
            dual_sig=o.customer.bank.credential.sign(CT_INVOICE, o.order.dual_signature.content, signing_time=now())
        ),
        E.MESSAGE_NOT_SUPPORTED,
        "K4",
    ),
    "envelope truncated": (lambda o: o.forged(envelope=o.order.pi_envelope[:-1]), DER, "K4"),
    "envelope with a trailing byte": (lambda o: o.forged(envelope=o.order.pi_envelope + b"\0"), DER, "K4"),
    "envelope in BER": (lambda o: o.forged(envelope=indefinite(o.order.pi_envelope)), DER, "K4"),
    "envelope in CBC": (lambda o: o.forged(envelope=envelope_by_openssl(o.site, "-aes-256-cbc")), DER, "K4"),
    "envelope with PKCS#1 v1.5": (lambda o: o.forged(envelope=envelope_by_openssl(o.site, "-aes-256-gcm")), DER, "K4"),
    "envelope with a tag of one byte": (lambda o: o.surgery(short_tag), DER, "K4"),
    # M2 to M4: about which invoice
    "another XID": (
        lambda o: o.forged(oi={"xid": bytes(20)}, dual={"xid": bytes(20)}),
        E.UNKNOWN_XID,
        "M2",
    ),
    "another order's XID": (
        lambda o: o.forged(oi={"xid": o.other().xid}, header={"xid": None}),
        E.WRAPPER_MSG_MISMATCH,
        "K2",
    ),
    "order information of another order": (
        lambda o: o.with_parts(oi_data=replace(o.other().order.oi, xid=o.xid, rrpid=o.order.oi.rrpid)),
        E.CHALLENGE_MISMATCH,
        "M3",
    ),
    "another challenge": (lambda o: o.forged(oi={"chall_m": bytes(32)}), E.CHALLENGE_MISMATCH, "M3"),
    "another order number": (lambda o: o.forged(oi={"lid_m": "other"}), E.CHALLENGE_MISMATCH, "M3"),
    "one rial less": (lambda o: o.forged(oi={"amount": rial(o, -1)}), E.AMOUNT_MISMATCH, "M4"),
    "one rial more": (lambda o: o.forged(oi={"amount": rial(o, 1)}), E.AMOUNT_MISMATCH, "M4"),
    "dollar": (lambda o: o.forged(oi={"amount": money(o, currency=840)}), E.AMOUNT_MISMATCH, "K1"),
    "another exponent": (lambda o: o.forged(oi={"amount": money(o, exp=1)}), E.AMOUNT_MISMATCH, "K1"),
    "nothing to pay": (lambda o: o.forged(oi={"amount": Money.rial(0)}), E.AMOUNT_MISMATCH, "K1"),
    "another merchant": (lambda o: o.forged(oi={"merchant_id": "M-2"}), E.INVOICE_MISMATCH, "M4"),
    "another invoice": (lambda o: o.forged(oi={"invoice_hash": bytes(32)}), E.INVOICE_MISMATCH, "M4"),
    "other lines": (lambda o: o.forged(oi={"hod": bytes(32)}), E.HASH_MISMATCH, "M4"),
    "another brand": (lambda o: o.forged(oi={"brand_id": "Other"}), E.INVOICE_MISMATCH, "M4"),
    "another issuer": (lambda o: o.forged(oi={"bin": "123456"}), E.INVOICE_MISMATCH, "M4"),
    # M5, M6: whose
    "of another hierarchy": (
        lambda o: o.forged(signer=PkiFactory(now=o.site.pki.now).cardholder("foreign")),
        E.INVALID_CERTIFICATE,
        "M5",
    ),
    "certificate expired": (
        lambda o: o.forged(
            signer=o.site.pki.cardholder("c", not_before=now() + 3 * YESTERDAY, not_after=now() + YESTERDAY)
        ),
        E.EXPIRED_CERTIFICATE,
        "M5",
    ),
    "certificate revoked": (Ordering.revoked, E.REVOKED_CERTIFICATE, "M5"),
    "a merchant's certificate": (lambda o: o.forged(signer=o.front.credential), E.ROLE_NOT_ALLOWED, "M5"),
    "another card": (lambda o: o.forged(signer=Customer.of(o.site).bank.credential), E.INVOICE_MISMATCH, "M5"),
    "signature changed": (lambda o: o.with_parts(dual_sig=flip(o.preq.dual_sig)), E.SIGNATURE_FAILURE, "M6"),
    "signed three minutes ago": (
        lambda o: o.forged(oi={"date": now() - timedelta(minutes=3)}, signing_time=now() - timedelta(minutes=3)),
        E.MESSAGE_TOO_OLD,
        "K7",
    ),
    # M7: what was signed
    "signed: one rial more": (lambda o: o.forged(dual={"amount": rial(o, 1)}), E.AMOUNT_MISMATCH, "M7"),
    "signed: dollar": (lambda o: o.forged(dual={"amount": money(o, currency=840)}), E.AMOUNT_MISMATCH, "K1"),
    "signed: another merchant": (lambda o: o.forged(dual={"merchant_id": "M-2"}), E.INVOICE_MISMATCH, "M7"),
    "signed: another merchant's certificate": (
        lambda o: o.forged(dual={"mer_cert_hash": bytes(32)}),
        E.INVOICE_MISMATCH,
        "M7",
    ),
    "signed: another XID": (lambda o: o.forged(dual={"xid": bytes(20)}), E.INVOICE_MISMATCH, "M7"),
    "signed: another invoice": (lambda o: o.forged(dual={"invoice_hash": bytes(32)}), E.INVOICE_MISMATCH, "M7"),
    "signed: a longer time": (lambda o: o.forged(dual={"not_after": now() + TOMORROW}), E.INVOICE_MISMATCH, "M7"),
    "signed: other order information": (lambda o: o.forged(dual={"h_oi_data": bytes(32)}), E.HASH_MISMATCH, "M7"),
    "other payment information": (lambda o: o.with_parts(h_pi_data=bytes(32)), E.HASH_MISMATCH, "M7"),
    # M8: to whom it is sealed
    "signed: another gateway": (lambda o: o.forged(dual={"gw_id": "GW-2"}), E.GATEWAY_MISMATCH, "M8"),
    "signed: another gateway's certificate": (
        lambda o: o.forged(dual={"gw_cert_hash": bytes(32)}),
        E.GATEWAY_MISMATCH,
        "M8",
    ),
    "sealed to another certificate": (lambda o: o.forged(envelope=resealed(o)), E.ENVELOPE_MISMATCH, "M8"),
    "sealed with a suite that is not named": (lambda o: o.forged(envelope=stronger(o)), E.ENVELOPE_MISMATCH, "M8"),
    "envelope of another order": (
        lambda o: o.with_parts(pi_envelope=o.other().order.pi_envelope),
        E.ENVELOPE_MISMATCH,
        "M8",
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_a_bad_order_is_refused_and_the_invoice_stays_open(
    site: Site, front: Front, customer: Customer, name: str
) -> None:
    make, code, check = ORDERS[name]
    ordering = Ordering(site, front, customer)
    sent = len(front.line.sent)
    refused = front.refused(PURCHASE, make(ordering)).body
    assert (refused.error_code, refused.clause) == (code, check)
    order = front.order(ordering.xid)
    assert order is not None
    assert (order.state, order.h_purchase) == (OrderState.INVOICED, None)
    assert len(front.line.sent) == sent


def test_after_all_that_the_honest_order_is_taken(site: Site, front: Front, customer: Customer) -> None:
    before, debits = customer.balance, front.debits()
    ordering = Ordering(site, front, customer)
    for name in ("one rial less", "signature changed", "envelope of another order"):
        front.refused(PURCHASE, ORDERS[name][0](ordering))
    unwrap(front.post(PURCHASE, ordering.message).content, expected=(CT_RECEIPT,))
    assert (customer.balance, front.debits()) == (before - TOTAL, debits + 1)


def test_an_order_for_an_invoice_that_ran_out_is_refused(
    site: Site, gateway: str, customer: Customer, tmp_path: Path
) -> None:
    front = Front.of(site, gateway, tmp_path)
    front.rules["invoice_lifetime"] = timedelta(minutes=5)
    with front.serving():
        ordering = Ordering(site, front, customer)
        front.clock.offset = timedelta(minutes=6)
        received = front.post(PURCHASE, ordering.message)
        error = unwrap(received.content, expected=(CT_ERROR,))
        later = now() + timedelta(minutes=6)
        body = read_error(error, sent=ordering.message, role=Role.MERCHANT, trust=site.pki.trust(later), now=later).body
    assert (body.error_code, body.clause) == (E.INVOICE_EXPIRED, "M2")
    assert front.line.sent == []


# --- HTTP itself ---


@pytest.mark.parametrize("path", [REQUEST, PURCHASE])
def test_more_than_256_kib_is_refused_before_it_is_read(front: Front, path: str) -> None:
    response = front.post(path, bytes(262_145))
    assert (response.status_code, response.headers["content-type"]) == (413, "application/problem+json")
    assert response.json()["clause"] == "KWBP K1"
    with front.http() as client:  # no length announced
        pieces = (bytes(10_000) for _ in range(27))
        assert client.post(path, content=pieces, headers={"content-type": MEDIA_TYPE}).status_code == 413


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/json", "application/vnd.kwbp2", "multipart/x"])
def test_another_media_type_is_refused(front: Front, customer: Customer, media_type: str) -> None:
    response = front.post(REQUEST, customer.signed(customer.ask()), media_type)
    assert (response.status_code, response.json()["type"]) == (415, "urn:kwbp:problem:unsupported-media-type")


def test_parameters_of_the_media_type_mean_nothing(front: Front, customer: Customer) -> None:
    request = customer.ask()
    answer = front.post(REQUEST, customer.signed(request), f"{MEDIA_TYPE.upper()}; charset=binary")
    customer.accept(request, answer.content, front)


def test_the_token_does_not_sign_for_everybody_who_sends_junk(
    site: Site, gateway: str, customer: Customer, tmp_path: Path
) -> None:
    """Threat 40: after the budget, errors are bare. Whoever gets one draws no conclusion; honest messages go on."""
    front = Front.of(site, gateway, tmp_path)
    front.rules["signed_refusals"] = 3
    with front.serving():
        for _ in range(3):
            front.refused(REQUEST, os.urandom(100))
        junk = os.urandom(100)
        error = unwrap(front.post(REQUEST, junk).content, expected=(CT_ERROR,))
        received = read_error(error, sent=junk, role=Role.MERCHANT, trust=site.pki.trust(now()), now=now())
        assert received.signer is None
        request = customer.ask()
        customer.accept(request, front.post(REQUEST, customer.signed(request)).content, front)
        front.clock.offset = timedelta(seconds=61)
        front.refused(REQUEST, os.urandom(100))
