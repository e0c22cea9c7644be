"""Buyers' orders for the gateway's key service, honest ones and twins that are wrong in one place.

maker = OrderMaker(pki, gateway_certificate, seal)
order = maker.order(card)                              # honest
twin = maker.order(card, dual={"amount": Money.rial(1)})
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kwbp import fields
from kwbp.codes import SaleKind
from kwbp.commitment import commitment_cn
from kwbp.messages import DualSigTBS, PANData, PIData, PIHead, PISealed
from kwbp.money import Money
from kwbp.structure import encode
from pki.der import sha256
from pki.oids import CT_DUAL_SIGNATURE
from shetab.iran import pan_from
from shetab.types import Cvv2, Expiry, Pan, Pin
from tests.support.pki_factory import NOW, Credential, PkiFactory

Seal = Callable[[bytes, x509.Certificate], bytes]


@dataclass(frozen=True)
class BuyersCard:
    """A card as its wallet holds it."""

    pan: Pan
    expiry: Expiry = field(default_factory=lambda: Expiry("0712"))
    cvv2: Cvv2 | None = field(default_factory=lambda: Cvv2("4321"))
    pin2: Pin | None = field(default_factory=lambda: Pin("736152"))
    pan_secret: bytes = field(default_factory=lambda: os.urandom(32))

    @classmethod
    def issue(cls, payload: str = "603799123456789", **changes: Any) -> BuyersCard:
        """A card of the PAN whose digits but the last are `payload`."""
        return cls(pan_from(payload), **changes)

    @property
    def commitment(self) -> str:
        """commonName of the certificate that belongs to this card."""
        return commitment_cn(self.pan_secret, self.pan, self.expiry)


@dataclass(frozen=True)
class SealedOrder:
    """The three things that the gateway hands to its key service."""

    pi_envelope: bytes
    dual_signature: bytes
    hod: bytes
    xid: bytes


class OrderMaker:
    """Makes orders for one gateway; `seal(plaintext, certificate)` gives the envelope."""

    def __init__(self, pki: PkiFactory, gateway: x509.Certificate, seal: Seal) -> None:
        self.pki = pki
        self.gateway = gateway
        self.seal = seal
        self.merchant = pki.merchant()

    def cardholder(self, card: BuyersCard, **changes: Any) -> Credential:
        """The certificate of the card."""
        return self.pki.cardholder(card.commitment, **changes)

    def order(
        self,
        card: BuyersCard,
        *,
        signer: Credential | None = None,
        head: Mapping[str, Any] | None = None,
        pan_data: Mapping[str, Any] | None = None,
        sealed: Mapping[str, Any] | None = None,
        dual: Mapping[str, Any] | None = None,
        plaintext: bytes | None = None,
        envelope: Callable[[bytes], bytes] = lambda der: der,
        now: datetime = NOW,
    ) -> SealedOrder:
        """One order; the mappings overwrite fields of PIHead, PANData, PISealed and DualSigTBS after the honest rest.

        `plaintext` replaces what is sealed; `envelope` changes the envelope before its hash is signed.
        """
        hod = os.urandom(32)
        common = {
            "version": fields.VERSION,
            "xid": os.urandom(20),
            "lid_m": "order-1",
            "merchant_id": "M-1",
            "mer_cert_hash": self.merchant.certificate.fingerprint(hashes.SHA256()),
            "gw_id": "GW-1",
            "gw_cert_hash": self.gateway.fingerprint(hashes.SHA256()),
            "amount": Money.rial(1_250_000),
            "invoice_hash": os.urandom(32),
            "not_after": fields.to_time(now + timedelta(minutes=15)),
            "sale_kind": SaleKind.SALE,
        }
        pi_head = PIHead(**{**common, "hod": hod, "trans_stain": os.urandom(32), **(head or {})})
        pans = PANData(
            **{
                "pan": card.pan.reveal(),
                "expiry": card.expiry.reveal(),
                "pan_secret": card.pan_secret,
                "pin2": card.pin2.reveal() if card.pin2 else None,
                "cvv2": card.cvv2.reveal() if card.cvv2 else None,
                "ex_nonce": os.urandom(32),
                **(pan_data or {}),
            }
        )
        h_oi_data = os.urandom(32)
        content = encode(PISealed(**{"pi_head": pi_head, "pan_data": pans, "h_oi_data": h_oi_data, **(sealed or {})}))
        pi_envelope = envelope(self.seal(content if plaintext is None else plaintext, self.gateway))
        tbs = DualSigTBS(
            **{
                **common,
                "h_pi_data": sha256(encode(PIData(pi_head=pi_head, pan_data=pans))),
                "h_oi_data": h_oi_data,
                "h_pi_envelope": sha256(pi_envelope),
                **(dual or {}),
            }
        )
        signer = signer or self.cardholder(card)
        signature = signer.sign(CT_DUAL_SIGNATURE, encode(tbs), signing_time=now)
        return SealedOrder(pi_envelope, signature, hod, common["xid"])
