"""Scenario G1 and G2: first both signatures, then the card. A recording key counts who gets to touch it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

import kwbp.gateway.opened
import kwbp.gateway.request
from kwbp.errors import ProtocolError
from kwbp.gateway import OpenedCard, VerifiedOrder, check_opened
from kwbp.money import Money
from pki.algorithms import SealingSuite
from tests.kwbp.forge import requested, resealed
from tests.kwbp.world import TOTAL, Purchase, World
from tests.support.pki_factory import PkiFactory, rsa_key, unseal


@dataclass
class RecordingKey:
    """The gateway's decryption key, as its keeper offers it: it opens what a verified order seals, and counts."""

    uses: int = 0
    opened: list[bytes] = field(default_factory=list)

    def open(self, order: VerifiedOrder) -> bytes:
        self.uses += 1
        return unseal(order.envelope.der, rsa_key(0))


def serve(world: World, key: RecordingKey, message: bytes) -> OpenedCard:
    """What the gateway does with an AuthReq, G1 to G10."""
    order = world.check_auth_req(message)
    return world.check_opened(key.open(order), order)


HOSTILE: dict[str, Callable[[World, Purchase], bytes]] = {
    "not DER": lambda world, purchase: b"junk" * 1000,
    "truncated": lambda world, purchase: purchase.auth_req_message[:-1],
    "trailing byte": lambda world, purchase: purchase.auth_req_message + b"\x00",
    "too big": lambda world, purchase: bytes(300_000),
    "merchant of a foreign hierarchy": lambda world, purchase: requested(
        world, purchase, signer=PkiFactory().merchant("M-1")
    ),
    "merchant without a merchant's role": lambda world, purchase: requested(world, purchase, signer=world.buyer),
    "another merchant": lambda world, purchase: requested(world, purchase, signer=world.other_shop),
    "invoice of another merchant": lambda world, purchase: requested(world, purchase, invoice_signer=world.other_shop),
    "card of a foreign hierarchy": lambda world, purchase: requested(world, purchase, buyer=PkiFactory().cardholder()),
    "merchant signs for the buyer": lambda world, purchase: requested(world, purchase, buyer=world.shop),
    "amount one rial less": lambda world, purchase: requested(world, purchase, amount=Money.rial(TOTAL - 1)),
    "buyer signed one rial less": lambda world, purchase: requested(
        world, purchase, dual={"amount": Money.rial(TOTAL - 1)}
    ),
    "other XID": lambda world, purchase: requested(world, purchase, xid=bytes(20)),
    "other gateway": lambda world, purchase: requested(world, purchase, dual={"gw_cert_hash": bytes(32)}),
    "envelope exchanged": lambda world, purchase: requested(
        world,
        purchase,
        pi_envelope=resealed(world, purchase, world.gateway_encryption, SealingSuite.OAEP_SHA256),
    ),
    "envelope to another gateway": lambda world, purchase: requested(
        world,
        purchase,
        envelope=resealed(world, purchase, world.other_gateway_encryption, SealingSuite.OAEP_SHA256),
    ),
    "old request": lambda world, purchase: requested(world, purchase, signing_time=world.now - timedelta(minutes=3)),
}


def test_honest_order_is_opened_once(world: World, purchase: Purchase) -> None:
    key = RecordingKey()
    assert serve(world, key, purchase.auth_req_message).pan == world.card.pan
    assert key.uses == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_key_is_not_touched_while_anything_is_wrong(world: World, purchase: Purchase, name: str) -> None:
    key = RecordingKey()
    with pytest.raises(ProtocolError):
        serve(world, key, HOSTILE[name](world, purchase))
    assert key.uses == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_flood_of_junk_never_reaches_the_key(world: World, purchase: Purchase, name: str) -> None:
    """Threat 40: repeated, too; nothing accumulates that would let one through."""
    key = RecordingKey()
    message = HOSTILE[name](world, purchase)
    for _ in range(20):
        with pytest.raises(ProtocolError):
            serve(world, key, message)
    assert key.uses == 0


def test_checks_before_opening_take_no_key() -> None:
    """By signature: no parameter of the checks is, or could hold, a private key."""
    for module in (kwbp.gateway.request, kwbp.gateway.opened):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            annotations = " ".join(str(a) for a in inspect.get_annotations(function).values())
            assert "Private" not in annotations, name
            assert "Signer" not in annotations, name


def test_opened_data_are_judged_for_a_verified_order_only() -> None:
    assert inspect.signature(check_opened).parameters["order"].annotation == "VerifiedOrder"
