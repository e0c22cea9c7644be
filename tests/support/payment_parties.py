"""Who takes part in the purchases of the gateway's tests, and what they send and check: shops, buyers, purchases."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

from kwbp import merchant, wallet
from kwbp.common import Draft
from kwbp.error_message import read_error
from kwbp.messages import AuthResTBS, ErrorTBS
from kwbp.parties import MerchantIdentity
from kwbp.structure import decode
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki import cms_signed
from pki.der import sha256
from pki.oids import CT_AUTH_RES, CT_ERROR
from pki.roles import Role
from runtime.client import TlsFiles, http_client, raise_problem
from switch.records import Account, IssuedCard
from tests.support.pki_factory import Credential

if TYPE_CHECKING:
    from tests.support.payment_site import Site


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Shop:
    """A merchant: its signing credential and its way to a gateway."""

    site: Site
    merchant_id: str
    terminal_id: str
    credential: Credential
    tls: TlsFiles

    @property
    def identity(self) -> MerchantIdentity:
        return MerchantIdentity.of(self.credential.certificate)

    def collect(self, url: str, purchase: Purchase) -> bytes:
        """Send the AuthReq; the answer, which must be a protocol message."""
        return self._exchanged(self.post(url, "/v1/auth", purchase.message))

    def acknowledge(self, url: str, ack: bytes) -> bytes:
        """Send an AuthAck; the Error that came back, or nothing."""
        response = self.post(url, "/v1/ack", ack)
        return b"" if response.status_code == 204 else self._exchanged(response)

    def _exchanged(self, response: httpx.Response) -> bytes:
        assert response.status_code == 200, (response.status_code, response.text)
        assert response.headers["content-type"] == MEDIA_TYPE
        return response.content

    def post(self, url: str, path: str, body: bytes, *, tls: TlsFiles | None = None) -> httpx.Response:
        with http_client(tls or self.tls, url) as client:
            return client.post(path, content=body, headers={"content-type": MEDIA_TYPE})

    def order(self, url: str, xid: bytes) -> dict[str, Any]:
        """What the gateway says of an order."""
        with http_client(self.tls, url) as client:
            found: dict[str, Any] = raise_problem(client.get(f"/v1/orders/{xid.hex()}")).json()
        return found

    def settlings(self, url: str, xid: bytes) -> list[dict[str, Any]]:
        """What the gateway says of what came of an order after its authorisation, oldest first."""
        with http_client(self.tls, url) as client:
            found: list[dict[str, Any]] = raise_problem(client.get(f"/v1/orders/{xid.hex()}/settlings")).json()
        return found


@dataclass(frozen=True)
class Buyer:
    """A customer of a bank: an account, a card with its secrets, a certificate that commits to it."""

    site: Site
    account: Account
    issued: IssuedCard
    card: wallet.Card
    credential: Credential

    @property
    def balance(self) -> int:
        return int(self.site.switch.admin.account(self.account.iban).balance)


@dataclass(frozen=True)
class Purchase:
    """An order that is ready to be collected: the AuthReq message, and what its answer is judged by."""

    shop: Shop
    buyer: Buyer
    amount: int
    xid: bytes
    message: bytes
    signed: bytes
    checked: merchant.CheckedPurchase

    @property
    def sent(self) -> merchant.SentAuthReq:
        return merchant.SentAuthReq.load(self.signed)

    def checked_answer(self, answer: bytes) -> merchant.CheckedAuthRes:
        """The AuthRes in `answer`, after all of the merchant's checks."""
        message = unwrap(answer, expected=(CT_AUTH_RES,))
        return merchant.check_auth_res(message, sent=self.sent, trust=self.shop.site.pki.trust(now()), now=now())

    def ack(self, answer: bytes, *, accepted: bool = True) -> bytes:
        """The AuthAck message to `answer`."""
        draft = merchant.build_auth_ack(self.checked_answer(answer), accepted=accepted, now=now())
        return draft.message(signed_by(self.shop.credential, draft))

    def again(self) -> bytes:
        """The same order in another AuthReq: signed anew, so another hash."""
        draft = merchant.build_auth_req(
            self.checked, terminal_id=self.shop.terminal_id, rrpid=os.urandom(20), now=now(), attempt=2
        )
        return draft.message(signed_by(self.shop.credential, draft))


def with_envelope(order: wallet.PurchaseDraft, envelope: bytes) -> wallet.PurchaseDraft:
    """The order of a buyer who signs another envelope."""
    draft = order.dual_signature
    body = replace(draft.body, h_pi_envelope=sha256(envelope))
    dual = Draft.of(draft.content_type, body, rrpid=draft.rrpid, xid=draft.xid)
    return replace(order, pi_envelope=envelope, dual_signature=dual)


def signed_by(credential: Credential, draft: Draft[Any]) -> bytes:
    return credential.sign(draft.content_type, draft.content, signing_time=now())


def error_of(answer: bytes, sent: bytes, site: Site, *, signed: bool = True) -> ErrorTBS:
    """The Error message that answers `sent`, signed by the gateway, or bare as told."""
    received = read_error(
        unwrap(answer, expected=(CT_ERROR,)),
        sent=sent,
        role=Role.GATEWAY_SIGNING,
        trust=site.pki.trust(now()),
        now=now(),
    )
    assert (received.signer is not None) == signed
    return received.body


def auth_res_of(answer: bytes) -> AuthResTBS:
    """The AuthRes in `answer`, its signature verified, its content not judged."""
    signed = cms_signed.parse_signed_data(unwrap(answer, expected=(CT_AUTH_RES,)).body, content_type=CT_AUTH_RES)
    cms_signed.verify_signature(signed)
    return decode(AuthResTBS, signed.content)
