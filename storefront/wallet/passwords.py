"""A one-time password (رمز پویا) for a purchase, asked for before the order is signed (row 11).

The request is sealed to the gateway that the invoice names; the shop passes it on and cannot read it. The card's bank
tells the holder the password, who types it in the place of PIN2. What comes back here says where it was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import httpx

from kwbp.checks import CHECKS
from kwbp.common import instant
from kwbp.error_message import ReceivedError, read_error
from kwbp.errors import ProtocolError
from kwbp.parties import MerchantIdentity, gateway_data
from kwbp.password import (
    OTPResTBS,
    SentPasswordRequest,
    build_password_request,
    check_password_answer,
    seal_password_request,
)
from kwbp.wallet import CheckedInvoice
from kwbp.wrapper import KwbpMessage, unwrap
from pki import cms_signed
from pki.oids import CT_ERROR, CT_OTP_RES
from pki.path import Trust
from pki.roles import Role, role_of
from storefront.errors import NoMessage, RefusedByShop, ShopUnreachable
from storefront.exchange import post
from storefront.wallet.wallet import CardCredential

_FRESH: Final = timedelta(seconds=100)
"""How long an unanswered request is sent again as it is: gateways take none that is older than 120 s (K7)."""
_RAN_OUT: Final = "P7"
"""The answer is the gateway's, but its password is no longer good: the same request would get the same answer."""


class PasswordRequests:
    """Requests of one card at one shop."""

    def __init__(
        self,
        card: CardCredential,
        shop: httpx.Client,
        *,
        trust: Callable[[datetime], Trust],
        clock: Callable[[], datetime],
        rng: Callable[[int], bytes],
    ) -> None:
        self._card = card
        self._shop = shop
        self._trust = trust
        self._clock = clock
        self._rng = rng
        self._unanswered: SentPasswordRequest | None = None

    def request(self, checked: CheckedInvoice) -> OTPResTBS:
        """Have the card's bank send its holder a password for the purchase of this invoice.

        A request that the gateway did not answer is sent again as it was, whatever the shop says of it, so that the
        holder is told once; after the gateway's answer, another call asks for another password.

        :raises ShopUnreachable: nobody answered, or nothing that can be believed. :raises RefusedByShop: the shop or
            its gateway refuses, signed. :raises ProtocolError: the answer is not as it must be.
        """
        sent = self._unanswered
        if sent is None or sent.xid != checked.invoice.xid or sent.sent_at < self._clock() - _FRESH:
            sent = self._sealed(checked)
        self._unanswered = sent
        try:
            answer = post(self._shop, "/kwbp/password", sent.message).message
        except NoMessage as error:
            raise ShopUnreachable(f"the shop did not answer ({error})") from None
        now = self._clock()
        trust = self._trust(now)
        message = unwrap(answer, expected=(CT_OTP_RES, CT_ERROR))
        if message.msg_type == CT_ERROR:
            raise self._refusal(message, sent, checked, trust, now)
        try:
            told = check_password_answer(message, sent=sent, trust=trust, now=now)
        except ProtocolError as error:
            if error.check == _RAN_OUT:
                self._unanswered = None
            raise
        self._unanswered = None
        return told

    def _sealed(self, checked: CheckedInvoice) -> SentPasswordRequest:
        draft = build_password_request(
            checked, self._card.in_hand(None, None), rrpid=self._rng(20), now=self._clock(), rng=self._rng
        )
        signed = cms_signed.sign(
            draft.content_type,
            draft.content,
            key=self._card.key,
            signer=self._card.certificate,
            chain=self._card.chain,
            signing_time=self._clock(),
        )
        return seal_password_request(draft, signed, checked.gateway, rng=self._rng)

    def _refusal(
        self, message: KwbpMessage, sent: SentPasswordRequest, checked: CheckedInvoice, trust: Trust, now: datetime
    ) -> RefusedByShop | ShopUnreachable:
        """The Error as an exception: only the invoice's merchant and its gateway may refuse."""
        received = _read(message, sent, trust, now)
        if received.signer is None or not _is_party(received, checked):
            return ShopUnreachable("the shop answered with an error that neither it nor its gateway signed")
        if role_of(received.signer) is Role.GATEWAY_SIGNING:
            self._unanswered = None
        body = received.body
        error = ProtocolError(
            body.error_code,
            body.clause if body.clause in CHECKS else "E1",
            "the request for a password was refused",
            time_hint=instant(body.time_hint) if body.time_hint is not None else None,
        )
        return RefusedByShop(error, message.body)


def _read(message: KwbpMessage, sent: SentPasswordRequest, trust: Trust, now: datetime) -> ReceivedError:
    try:
        return read_error(message, sent=sent.message, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    except ProtocolError:
        return read_error(message, sent=sent.message, role=Role.MERCHANT, trust=trust, now=now)


def _is_party(received: ReceivedError, checked: CheckedInvoice) -> bool:
    assert received.signer is not None
    if role_of(received.signer) is Role.MERCHANT:
        return MerchantIdentity.of(received.signer).cert_hash == checked.invoice.mer_cert_hash
    signer = gateway_data(received.signer)
    return (signer.gateway_id, signer.acquirer_bin) == (checked.gateway.gateway_id, checked.gateway.acquirer_bin)
