"""What may come back from the gateway, or not: an order ends by its gateway's signed word, by nothing else.

The gateway is the real one; a fault on the wire in front of it is what a test is about.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.codes import AuthCode, CertificateStatus, ErrorCode
from kwbp.common import Draft, read_signed
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.gateway_certificates import GatewayCertificate, PCertReqTBS, PCertResTBS
from kwbp.messages import AuthResTBS
from kwbp.wrapper import unwrap, wrap
from pki.oids import CT_AUTH_REQ, CT_AUTH_RES, CT_ERROR, CT_P_CERT_REQ, CT_P_CERT_RES
from storefront.merchant.documents import Document
from storefront.merchant.states import OrderState
from storefront.wallet.purchase import PurchaseState
from tests.support.payment_site import ACQUIRER, GATEWAY_ID, OPENING, Site, now, wait_for
from tests.support.pki_factory import PkiFactory, rsa_key
from tests.support.shop_front import (
    BASKET,
    TOTAL,
    Customer,
    Fault,
    Forward,
    Front,
    answer_lost,
    hsm,
    replies,
    unreachable,
)

Sign = Callable[[Any], bytes]


def order_of(front: Front, xid: bytes) -> OrderState:
    order = front.order(xid)
    assert order is not None
    return order.state


def bought(front: Front, customer: Customer, purchases: Path) -> Any:
    with customer.shopping(front, purchases) as buyer:
        return buyer.order(buyer.request_invoice(BASKET), **customer.typed)


def by_gateway(site: Site) -> Sign:
    """Signed by the real gateway's key in the token."""

    def sign(draft: Any) -> bytes:
        with hsm(site, "gateway") as keys:
            return keys.sign_cms("gateway-signing", draft.content_type.dotted_string, draft.content)

    return sign


def error(sign: Sign, code: ErrorCode, *, about: bytes | None = None) -> Fault:
    """An Error about the request, or about other bytes."""

    def body(request: bytes) -> bytes:
        draft = build_error(ProtocolError(code, "G4", "as told"), refused=about or request, now=now())
        return wrap(CT_ERROR, sign(draft), rrpid=draft.rrpid, xid=draft.xid)

    return replies(body)


def by(credential: Any) -> Sign:
    return lambda draft: credential.sign(draft.content_type, draft.content, signing_time=now())


async def flipped(request: httpx.Request, forward: Forward) -> httpx.Response:
    """The gateway's answer with one bit changed in its signature."""
    response = await forward(request)
    content = bytearray(await response.aread())
    content[-10] ^= 1
    return httpx.Response(200, content=bytes(content), headers={"content-type": response.headers["content-type"]})


def no_answers(site: Site) -> dict[str, Fault]:
    """Faults after which the merchant knows as little as before."""
    other_gateway = site.pki.gateway_signing("GW-2", acquirer_bin=ACQUIRER)
    other_acquirer = site.pki.gateway_signing("GW-1", acquirer_bin="581672")
    foreign = PkiFactory(now=site.pki.now).gateway_signing("GW-1", acquirer_bin=ACQUIRER)
    final = ErrorCode.SIGNATURE_FAILURE
    return {
        "unreachable": unreachable,
        "answer lost": answer_lost,
        "noise": replies(os.urandom(500)),
        "nothing": replies(b""),
        "no content": replies(b"", status=204),
        "text": replies(b"<html>", media_type="text/html"),
        "problem": replies(b"{}", status=503, media_type="application/problem+json"),
        "endless": replies(bytes(300_000)),
        "bare error": error(lambda draft: bytes(draft.content), final),
        "error of another gateway": error(by(other_gateway), final),
        "error of another acquirer's gateway": error(by(other_acquirer), final),
        "error of a gateway of another hierarchy": error(by(foreign), final),
        "error of a merchant": error(by(site.pki.merchant("M-9", acquirer_bin=ACQUIRER)), final),
        "error about another message": error(by_gateway(site), final, about=b"another"),
        "changed answer": flipped,
        "error: could not do it": error(by_gateway(site), ErrorCode.UNSPECIFIED_FAILURE),
        "error: too many requests": error(by_gateway(site), ErrorCode.RATE_LIMITED),
        "error: no status of certificates": error(by_gateway(site), ErrorCode.BCI_STALE),
    }


NO_ANSWERS = [
    "unreachable", "answer lost", "noise", "nothing", "no content", "text", "problem", "endless", "bare error",
    "error of another gateway", "error of another acquirer's gateway", "error of a gateway of another hierarchy",
    "error of a merchant", "error about another message", "changed answer", "error: could not do it",
    "error: too many requests", "error: no status of certificates",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_to_a_request_changes_nothing_and_it_is_sent_again(
    site: Site, front: Front, customer: Customer, purchases: Path, name: str
) -> None:
    front.line.faults.append(no_answers(site)[name])
    with front.serving():
        assert bought(front, customer, purchases).state is PurchaseState.PAID
    requests = [body for path, body in front.line.sent if path == "/v1/auth"]
    assert len(requests) == 2
    assert len(set(requests)) == 1
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


@pytest.mark.parametrize("name", ["unreachable", "answer lost", "noise", "bare error", "error of another gateway"])
def test_what_is_no_answer_to_an_acknowledgement_changes_nothing(
    site: Site, front: Front, customer: Customer, purchases: Path, name: str
) -> None:
    async def pass_on(request: httpx.Request, forward: Forward) -> httpx.Response:
        return await forward(request)

    front.line.faults.extend([pass_on, no_answers(site)[name]])
    with front.serving():
        assert bought(front, customer, purchases).state is PurchaseState.PAID
    acks = [body for path, body in front.line.sent if path == "/v1/ack"]
    assert len(acks) == 2
    assert len(set(acks)) == 1
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


@pytest.mark.parametrize(
    "code",
    [ErrorCode.SIGNATURE_FAILURE, ErrorCode.MESSAGE_TOO_OLD, ErrorCode.INVOICE_EXPIRED],
    ids=lambda code: code.name,
)
def test_a_refusal_that_the_gateway_signed_ends_the_order(
    site: Site, front: Front, customer: Customer, purchases: Path, code: ErrorCode
) -> None:
    front.line.faults.append(error(by_gateway(site), code))
    with front.serving():
        outcome = bought(front, customer, purchases)
        assert outcome.refusal is not None
        assert (outcome.state, outcome.refusal.code) == (PurchaseState.REFUSED, code)
        assert order_of(front, outcome.xid) is OrderState.DECLINED
    assert front.document(outcome.xid, Document.GATEWAY_ERROR) is not None
    assert (purchases / outcome.xid.hex() / "error.p7s").exists()
    assert front.line.count("/v1/auth") == 1
    assert (customer.balance, front.debits()) == (OPENING, 0)


def test_a_wallet_is_not_kept_waiting_for_ever(front: Front, customer: Customer, purchases: Path) -> None:
    front.rules["patience"] = 0.3
    front.line.always = unreachable
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
        assert outcome.refusal is not None
        assert (outcome.state, outcome.refusal.code) == (PurchaseState.PENDING, ErrorCode.UNKNOWN_OUTCOME)
        assert order_of(front, outcome.xid) is OrderState.PAID_PENDING
        front.line.always = None
        wait_for(lambda: order_of(front, outcome.xid) is OrderState.RECEIPTED)
        assert buyer.resume(outcome.xid).state is PurchaseState.PAID
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


@pytest.fixture(scope="module")
def hasty(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that waits for an acknowledgement for one second only."""
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("hasty") / "home", ack_timeout=1.0)) as url:
        yield url


def test_an_order_book_from_before_the_request_does_not_make_a_second_one(
    make_front: Callable[..., Front], hasty: str, customer: Customer, purchases: Path
) -> None:
    """Restored from a backup, the merchant signs another AuthReq; the gateway has one. Nobody says "declined"."""
    front = make_front(at=hasty)
    with front.serving(fall="answered"):
        outcome = bought(front, customer, purchases)
    with sqlite3.connect(front.folder / f"{front.name}.sqlite") as connection:
        connection.execute("DELETE FROM documents WHERE kind = ?", [Document.AUTH_REQ.value])
    with front.serving(), customer.shopping(front, purchases) as buyer:
        wait_for(lambda: order_of(front, outcome.xid) is OrderState.REVERSED)
        again = buyer.resume(outcome.xid)
    answer = front.document(outcome.xid, Document.AUTH_RES)
    assert answer is not None
    assert read_signed(AuthResTBS, CT_AUTH_RES, answer).body.auth_code is AuthCode.PI_PREVIOUSLY_USED
    assert again.state is PurchaseState.REVERSED
    assert customer.balance == OPENING


def test_an_answer_about_another_order_is_none(front: Front, site: Site, purchases: Path) -> None:
    first, second = Customer.of(site), Customer.of(site)
    with front.serving():
        paid = bought(front, first, purchases)
        kept = front.document(paid.xid, Document.AUTH_RES)
        assert kept is not None

        def other(request: bytes) -> bytes:
            message = unwrap(request, expected=(CT_AUTH_REQ,))
            return wrap(CT_AUTH_RES, kept, rrpid=message.rrpid, xid=message.xid)

        front.line.faults.append(replies(other))
        outcome = bought(front, second, purchases)
    assert outcome.state is PurchaseState.PAID
    assert front.document(outcome.xid, Document.AUTH_RES) != kept
    assert front.debits() == 2


# --- certificates that invoices name ---


def named(site: Site, encryption: Any, *, sign: Sign | None = None, **changes: Any) -> Fault:
    """PCertRes that names the certificate of `encryption`; by the real gateway unless told otherwise."""

    def body(request: bytes) -> bytes:
        asked = read_signed(PCertReqTBS, CT_P_CERT_REQ, unwrap(request, expected=(CT_P_CERT_REQ,)).body)
        answer = PCertResTBS(
            version=2,
            rrpid=asked.body.rrpid,
            merchant_id=asked.body.merchant_id,
            chall=asked.body.chall,
            h_p_cert_req=asked.digest,
            gw_id=GATEWAY_ID,
            acquirer_id=ACQUIRER,
            certificates=[GatewayCertificate(certificate=encryption.der, status=CertificateStatus.GOOD)],
            chain=[each.public_bytes(Encoding.DER) for each in encryption.chain],
            date=to_time(now()),
        )
        draft = Draft.of(CT_P_CERT_RES, replace(answer, **changes), rrpid=asked.body.rrpid, xid=None)
        return draft.message((sign or by_gateway(site))(draft))

    return replies(body)


def rogue_certificates(site: Site) -> dict[str, Fault]:
    key = rsa_key(1)
    stranger = PkiFactory(now=site.pki.now)
    foreign = stranger.gateway_encryption(GATEWAY_ID, acquirer_bin=ACQUIRER, key=key)
    other = site.pki.gateway_encryption(GATEWAY_ID, acquirer_bin="581672", key=key)
    revoked = site.pki.gateway_encryption(GATEWAY_ID, acquirer_bin=ACQUIRER, key=key)
    second = site.pki.gateway_encryption("GW-3", acquirer_bin=ACQUIRER, key=key)
    site.pki.revoke(revoked)
    site.publish()
    return {
        "unreachable": unreachable,
        "problem": replies(b"{}", status=503, media_type="application/problem+json"),
        "noise": replies(b"\x30\x00"),
        "nothing": replies(b"", status=204),
        "bare error": error(lambda draft: bytes(draft.content), ErrorCode.RATE_LIMITED),
        "no certificate": named(site, replace(site.encryption, certificate=site.signing.certificate)),
        "of another hierarchy": named(site, foreign),
        "of another acquirer": named(site, other),
        "of another gateway": named(site, second),
        "revoked": named(site, revoked),
        "for another question": named(site, site.encryption, chall=bytes(32)),
        "a merchant's": named(site, site.pki.merchant("M-8", acquirer_bin=ACQUIRER)),
        "signed by another gateway": named(
            site, site.encryption, sign=by(site.pki.gateway_signing("GW-3", acquirer_bin=ACQUIRER))
        ),
        "signed by a gateway of another hierarchy": named(
            site, site.encryption, sign=by(stranger.gateway_signing(GATEWAY_ID, acquirer_bin=ACQUIRER))
        ),
        "signed by a merchant": named(site, site.encryption, sign=by(site.pki.merchant("M-8", acquirer_bin=ACQUIRER))),
    }


def test_the_merchant_signs_no_invoice_that_names_a_gateway_it_does_not_believe(
    site: Site, front: Front, customer: Customer
) -> None:
    rogues = rogue_certificates(site)
    request = customer.ask()
    message = customer.signed(request)
    with front.serving():
        for name, fault in rogues.items():
            front.line.certificates = fault
            refused = front.refused("/kwbp/invoice-request", message).body
            assert (refused.error_code, refused.clause) == (ErrorCode.UNSPECIFIED_FAILURE, "I3"), name
        with front.book() as book:
            assert book.newest(10) == []
        front.line.certificates = None
        customer.accept(request, front.post("/kwbp/invoice-request", message).content, front)
        front.line.certificates = unreachable  # known for a while
        again = customer.ask()
        customer.accept(again, front.post("/kwbp/invoice-request", customer.signed(again)).content, front)
