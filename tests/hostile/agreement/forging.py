"""What the attacker can make: pieces that it has seen, put together anew; signed only with the keys that it has.

A forged message takes a signed object for its form, changes fields to values seen elsewhere (or close to them, or the
dishonest party's own), and signs it again. Parts that carry no signature of their own (order information, envelopes,
which invoice goes with which order) are exchanged freely, with no key at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from cryptography import x509

from kwbp.codes import AuthCode, CompletionCode, PurchaseStatus
from kwbp.common import read_signed
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.gateway_certificates import PCertReqTBS, build_certificate_answer
from kwbp.merchant import MerchantIdentity
from kwbp.messages import DualSigTBS, InvoiceMessage, OIData, PReq
from kwbp.money import Money
from kwbp.parties import GatewayIdentity
from kwbp.structure import decode, encode
from kwbp.wrapper import KwbpMessage, wrap
from pki import oids
from pki.cms_enveloped import parse_auth_enveloped, seal
from pki.der import sha256
from tests.hostile.agreement.cast import TERMINALS, cast, chain_of, opened_by
from tests.hostile.agreement.network import Pieces, nth
from tests.hostile.agreement.properties import BAD_BUYER, BAD_MERCHANT, Dishonest
from tests.hostile.agreement.site import Site
from tests.support.pki_factory import Credential

Draw = Callable[[int], int]
"""Draws a number below another: the choices of an attack."""

SIGNS: Final[Mapping[Dishonest, tuple[x509.ObjectIdentifier, ...]]] = {
    Dishonest.NOBODY: (),
    Dishonest.SWITCH: (),
    Dishonest.BUYER: (oids.CT_INVOICE_REQ, oids.CT_DUAL_SIGNATURE, oids.CT_RECEIPT_ACK, oids.CT_INQ_REQ),
    Dishonest.MERCHANT: (
        oids.CT_AUTH_REQ, oids.CT_INVOICE, oids.CT_AUTH_ACK, oids.CT_RECEIPT, oids.CT_ERROR, oids.CT_INQ_REQ,
        oids.CT_INQ_RES,
    ),
    Dishonest.GATEWAY: (oids.CT_AUTH_RES, oids.CT_INQ_RES, oids.CT_ERROR),
}  # fmt: skip
_MOST_CHANGES: Final = 3


class Forger:
    """Makes messages for one dishonest party."""

    def __init__(self, site: Site, dishonest: Dishonest) -> None:
        self._site = site
        self._dishonest = dishonest

    @property
    def _pieces(self) -> Pieces:
        return self._site.network.pieces

    @property
    def credential(self) -> Credential | None:
        """The certificate and key that it signs with."""
        match self._dishonest:
            case Dishonest.BUYER:
                return cast().buyers[BAD_BUYER].credential
            case Dishonest.MERCHANT:
                return cast().merchants[BAD_MERCHANT]
            case Dishonest.GATEWAY:
                return cast().gateway_signing["GW-2"]
        return None

    def own(self) -> dict[str, list[Any]]:
        """What the dishonest party would like to stand in fields of these names."""
        values: dict[str, list[Any]] = {
            "auth_code": [AuthCode.APPROVED],
            "status": [PurchaseStatus.REVERSED, PurchaseStatus.CONCLUDED],
            "completion_code": [CompletionCode.CAPTURE_PERFORMED, CompletionCode.ORDER_REJECTED],
            "accepted": [True, False],
            "h_message": [sha256(message) for message in self._pieces.messages],
            "h_auth_req": [sha256(each.der) for each in self._pieces.signed.get(oids.CT_AUTH_REQ, ())],
            "h_auth_res": [sha256(each.der) for each in self._pieces.signed.get(oids.CT_AUTH_RES, ())],
            "h_dual_sig": [sha256(each.der) for each in self._pieces.signed.get(oids.CT_DUAL_SIGNATURE, ())],
            "h_inq_req": [sha256(each.der) for each in self._pieces.signed.get(oids.CT_INQ_REQ, ())],
            "invoice_hash": [sha256(each.der) for each in self._pieces.signed.get(oids.CT_INVOICE, ())],
            "h_pi_envelope": [sha256(each) for each in self._pieces.envelopes],
            "h_oi_data": [sha256(encode(each)) for each in self._pieces.orders],
            "invoice": [each.der for each in self._pieces.signed.get(oids.CT_INVOICE, ())],
            "dual_sig": [each.der for each in self._pieces.signed.get(oids.CT_DUAL_SIGNATURE, ())],
            "auth_res": [each.der for each in self._pieces.signed.get(oids.CT_AUTH_RES, ())],
            "pi_envelope": list(self._pieces.envelopes),
            "amount": [Money.rial(each.amount + 1) for each in self._pieces.values.get("amount", ())],
            "terminal_id": list(TERMINALS.values()),
        }
        if self._dishonest is Dishonest.MERCHANT:
            identity = MerchantIdentity.of(cast().merchants[BAD_MERCHANT].certificate)
            values |= {"merchant_id": [identity.merchant_id], "mer_cert_hash": [identity.cert_hash]}
        gateway = GatewayIdentity.of(cast().gateway_encryption["GW-2"].certificate)
        values |= {"gw_id": [gateway.gateway_id], "gw_cert_hash": [gateway.cert_hash]}
        return values

    def forge(self, draw: Draw) -> tuple[bytes, str] | None:
        """A message that only the dishonest party can make, and what it is; None if there is nothing to begin with."""
        kinds = [kind for kind in SIGNS[self._dishonest] if self._pieces.signed.get(kind)]
        if not kinds or self.credential is None:
            return None
        kind = kinds[draw(len(kinds))]
        base = nth(self._pieces.signed[kind], draw(1 << 16)).body
        body, changed = self._changed(base, draw)
        made = self.signed(kind, body)
        if made is None:
            return None
        if kind == oids.CT_DUAL_SIGNATURE:
            return self._purchase(made, body, draw), f"PReq with a dual signature changed in {changed}"
        if kind == oids.CT_INVOICE:
            offer = nth(self._pieces.offers, draw(1 << 16))
            message = encode(replace(offer, invoice=made))
            return wrap(oids.MT_INVOICE, message, rrpid=body.rrpid, xid=body.xid), f"Invoice changed in {changed}"
        xid = getattr(body, "xid", None)
        return wrap(kind, made, rrpid=body.rrpid, xid=xid), f"{type(body).__name__} changed in {changed}"

    def _changed(self, body: Any, draw: Draw) -> tuple[Any, str]:
        names = [name for name in body.__dataclass_fields__ if name not in ("version", "date")]
        own = self.own()
        changes: dict[str, Any] = {}
        if draw(2):  # a dishonest merchant's own name in every place
            for name in ("merchant_id", "mer_cert_hash"):
                if name in names and name in own:
                    changes[name] = own[name][0]
        for _ in range(draw(_MOST_CHANGES + 1)):
            name = names[draw(len(names))]
            choices = [*own.get(name, ()), *self._pieces.values.get(name, ())]
            if choices:
                changes[name] = choices[draw(len(choices))]
        if hasattr(body, "date"):
            changes["date"] = to_time(self._site.now())
        return replace(body, **changes), ", ".join(sorted(changes)) or "nothing"

    def signed(self, kind: x509.ObjectIdentifier, body: Any) -> bytes | None:
        """The object under the dishonest party's signature, of now; None if its form would betray it at once."""
        assert self.credential is not None
        try:
            made = self.credential.sign(kind, encode(body), signing_time=self._site.now())
            self._pieces.object(kind, made)
        except ProtocolError:
            return None
        return made

    def _purchase(self, dual: bytes, body: DualSigTBS, draw: Draw) -> bytes:
        """A PReq around a dual signature; its other parts are any that were seen, those that fit if there are such."""
        pieces = self._pieces
        orders = [each for each in pieces.orders if sha256(encode(each)) == body.h_oi_data] or pieces.orders
        envelopes = [each for each in pieces.envelopes if sha256(each) == body.h_pi_envelope] or pieces.envelopes
        return preq(nth(orders, draw(1 << 16)), dual, body.h_pi_data, nth(envelopes, draw(1 << 16)))

    def merchant_of(self, message: bytes) -> str | None:
        """The merchant that a message for the gateway names."""
        outer = decode(KwbpMessage, message)
        for piece in self._pieces.signed.get(outer.msg_type, ()):
            if piece.der == outer.body:
                named: str | None = getattr(piece.body, "merchant_id", None)
                return named if named in TERMINALS else None
        return None

    # --- without any key ----------------------------------------------------------------------------------------------

    def mix(self, draw: Draw) -> tuple[bytes, str] | None:
        """A PReq or Invoice of parts of several."""
        pieces = self._pieces
        pick = partial(_pick, draw)
        if draw(2) and pieces.offers:
            invoice = pick(pieces.offers)
            offer = InvoiceMessage(
                invoice=invoice.invoice,
                order_details=pick(pieces.offers).order_details,
                gateway_certificate=pick(pieces.offers).gateway_certificate,
                gateway_chain=pick(pieces.offers).gateway_chain,
            )
            signed = next(each.body for each in pieces.signed[oids.CT_INVOICE] if each.der == invoice.invoice)
            return wrap(oids.MT_INVOICE, encode(offer), rrpid=signed.rrpid, xid=signed.xid), "Invoice of several"
        if not pieces.purchases:
            return None
        order, dual, envelope = pick(pieces.purchases), pick(pieces.purchases), pick(pieces.purchases)
        message = preq(order.oi_data, dual.dual_sig, pick(pieces.purchases).h_pi_data, envelope.pi_envelope)
        return message, "PReq of several"

    # --- the dishonest gateway ----------------------------------------------------------------------------------------

    def certificates(self, merchant: str, message: bytes) -> bytes:
        """PCertRes of GW-2 in the place of the honest gateway: a merchant's invoices will name it."""
        request = read_signed(PCertReqTBS, oids.CT_P_CERT_REQ, decode(KwbpMessage, message).body)
        encryption = cast().gateway_encryption["GW-2"]
        draft = build_certificate_answer(
            request,
            gateway=GatewayIdentity.of(encryption.certificate),
            encryption_chain=chain_of(encryption),
            now=self._site.now(),
        )
        signed = cast().gateway_signing["GW-2"].sign(draft.content_type, draft.content, signing_time=self._site.now())
        return draft.message(signed)

    def reseal(self, draw: Draw) -> str | None:
        """Open what was sealed to GW-2, and seal it to GW-1."""
        mine = cast().gateway_encryption["GW-2"].certificate
        envelopes = [each for each in self._pieces.envelopes if parse_auth_enveloped(each).is_for(mine)]
        if not envelopes:
            return None
        plaintext = opened_by("GW-2", nth(envelopes, draw(1 << 16)))
        honest = GatewayIdentity.of(cast().gateway_encryption["GW-1"].certificate)
        again = seal(plaintext, honest.certificate, honest.strongest_suite, rng=self._site.rng.randbytes)
        self._pieces.envelope(again)
        return "an envelope opened and sealed to GW-1"


def preq(order: OIData, dual: bytes, h_pi_data: bytes, envelope: bytes) -> bytes:
    """PReq of these parts."""
    body = encode(PReq(oi_data=order, dual_sig=dual, h_pi_data=h_pi_data, pi_envelope=envelope))
    return wrap(oids.MT_PREQ, body, rrpid=order.rrpid, xid=order.xid)


def _pick(draw: Draw, things: list[Any]) -> Any:
    return things[draw(len(things))]
