"""Opening a buyer's order inside the token boundary (KWBP G8 to G10), for a gateway that is not taken at its word.

The process that asks has checked the order already; it is also the process that faces the network. So nothing is
opened here before the signature, the path of the cardholder's certificate, and every hash and name that binds the
envelope to this gateway have been verified once more. No private key is used until then (threats 8, 23, 24, 40).
Whether a certificate is revoked is left to the gateway, which fetches the lists.

From the moment of opening on there is one failure, whatever the cause: a tag, a hash, a commitment that is wrong look
alike, so that the answer tells nothing about what was sealed. Clear card data lives in local variables of `open_order`
alone; the PIN leaves it as an ISO 9564-1 block under the zone PIN key, or not at all.

What the token does is done in steps (`hsm_service.steps`), calls alone: what is recorded of them stands around them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

from cryptography import x509

from gateway_keys.errors import BlobError, DecodingFailedError, OrderRefusedError
from gateway_keys.opened import OpenedOrder
from gateway_keys.zone_exchange import index_of
from hsm_service.errors import DecodingFailure
from hsm_service.keys import KeyRef
from hsm_service.steps import Call, Steps
from hsm_service.token_operations import TokenOperations
from kwbp.errors import ProtocolError, SealedContentError
from kwbp.gateway import GatewayIdentity, OpenedCard, VerifiedOrder, check_opened, check_sealed_order
from pki.path import Trust
from shetab import pin_block
from shetab.errors import ShetabError
from shetab.mac import MacAlgorithm, padded
from shetab.pin_block import PinBlockFormat
from shetab.types import Pan, Pin

MAC_BYTES: Final = 8
"""DE 64/128 and the dialect: the first half of the CMAC."""
_PAN_CONTEXT: Final = b"kwbp-pan-v1"
_CARD_CONTEXT: Final = b"kwbp-card-id-v1\0"
_CARD_KEY_CHECK: Final = b"kwbp-card-key-check-v1\0"
CARD_KEY_CHECK_BYTES: Final = 8
_FILL_BYTES: Final = 256
"""Asked of the token for a PIN block at once: it takes 10 or so, and a few more where some are thrown away."""


@dataclass(frozen=True, slots=True)
class OrderKeys:
    """The keys that opening an order needs, all in one token."""

    token: TokenOperations
    encryption: KeyRef
    vault: KeyRef
    cards: KeyRef
    zone_pin: KeyRef
    zone_pin_version: int = 1


def verify_order(
    pi_envelope: bytes, dual_signature: bytes, hod: bytes, *, gateway: x509.Certificate, trust: Trust, now: datetime
) -> VerifiedOrder:
    """G1, G6 and G7 with public keys alone; only what comes out of here can be opened.

    :param pi_envelope: DER AuthEnvelopedData. :param dual_signature: DER SignedData over DualSigTBS.
    :param hod: hash of the order description as the merchant stated it, 32 bytes (G9 compares it with the sealed one).
    :param gateway: the certificate of the decryption key.
    :param trust: pinned root and known CA certificates; revocation lists are not consulted.
    :raises OrderRefusedError: a check failed.
    """
    try:
        return check_sealed_order(
            dual_signature,
            pi_envelope,
            hod,
            gateway=GatewayIdentity.of(gateway),
            trust=trust,
            now=now,
            check_revocation=False,
        )
    except ProtocolError as error:
        raise OrderRefusedError(error.check, error.code, error.detail) from None


@dataclass(frozen=True, slots=True)
class PinKey:
    """A zone PIN key, and the form of the blocks under it."""

    token: TokenOperations
    ref: KeyRef
    block_format: PinBlockFormat


@dataclass(frozen=True, slots=True)
class SealedPin:
    """A PIN as it leaves here, with the form of its block and the version of the key that it is under.

    Without a block where no PIN was given: form and version are those that it would have had.
    """

    block: bytes | None
    block_format: PinBlockFormat
    key_version: int


def open_order(
    order: VerifiedOrder,
    *,
    keys: OrderKeys,
    now: datetime,
    accepts_bin: Callable[[str], bool],
    block_format: PinBlockFormat = PinBlockFormat.FORMAT_3,
    elsewhere: Callable[[Pin | None, Pan], Steps[SealedPin | None]] | None = None,
) -> Steps[OpenedOrder]:
    """G8 to G10 in the token, then re-seal what must not be seen.

    :param block_format: of the PIN block; the zone PIN key is of a kind that fits it.
    :param elsewhere: seals the PIN of a card that is of another zone than `keys`; None of a card that is of this one.
    :param accepts_bin: whether the issuer of a card, by its first six digits, is served (G10).
    :raises DecodingFailedError: the same for every cause.
    :raises HsmError: the token's trouble.
    """
    card = yield from _open(order, keys, accepts_bin, now)
    sealed = yield from seal_pan(keys.token, keys.vault, order.dual.xid, card.pan)
    identifier = yield from card_id(keys.token, keys.cards, card.pan)
    # Last: an operation of another zone takes a turn at the token of its own, and gives ours up for it.
    pin = None if elsewhere is None else (yield from elsewhere(card.pin2, card.pan))
    if pin is None:
        own = PinKey(keys.token, keys.zone_pin, block_format)
        block = None if card.pin2 is None else (yield from seal_pin(own, card.pin2, card.pan))
        pin = SealedPin(block, block_format, keys.zone_pin_version)
    return OpenedOrder(
        pan=card.pan,
        expiry=card.expiry,
        cvv2=card.cvv2,
        pin_block=pin.block,
        pan_sealed=sealed,
        masked_pan=card.pan.masked,
        card_id=identifier,
        pin_key_index=index_of(pin.key_version),
        pin_block_format=int(pin.block_format),
    )


def seal_pin(key: PinKey, pin: Pin, pan: Pan) -> Steps[bytes]:
    """The PIN as an encrypted block of ISO 9564-1: 8 bytes, or 16 in format 4. The random fill is the token's."""
    fill = b""
    if key.block_format is not PinBlockFormat.FORMAT_0:
        fill = yield Call(key.token, "random", (_FILL_BYTES,))
    rng = BytesIO(fill).read
    if key.block_format is PinBlockFormat.FORMAT_4:
        fields = (pin_block.pin_field(pin, rng=rng), pin_block.pan_field(pan))
        block: bytes = yield Call(key.token, "aes_pin_block", (key.ref, *fields))
    else:
        clear = pin_block.build(key.block_format, pin, pan, rng=rng)
        block = yield Call(key.token, "des3_ecb_encrypt", (key.ref, clear))
    return block


def seal_pan(token: TokenOperations, vault: KeyRef, xid: bytes, pan: Pan) -> Steps[bytes]:
    """The PAN under the vault key, bound to its order: AES-GCM, additional data `kwbp-pan-v1` ‖ XID."""
    sealed: bytes = yield Call(token, "aes_gcm_encrypt", (vault, pan.reveal().encode("ascii"), _PAN_CONTEXT + xid))
    return sealed


def card_id(token: TokenOperations, cards: KeyRef, pan: Pan) -> Steps[bytes]:
    """What tells this card from others: 16 bytes, the same for the same card under the same key.

    A card number has so few unknown digits that its plain hash is as good as the number; whoever has these cannot try
    numbers without having the token try each.
    """
    identifier: bytes = yield Call(token, "keyed_digest", (cards, _CARD_CONTEXT + pan.reveal().encode("ascii")))
    return identifier


def card_key_check(token: TokenOperations, cards: KeyRef) -> Steps[bytes]:
    """What tells the key of `card_id` from others, and says nothing else about it: 8 bytes."""
    check: bytes = yield Call(token, "keyed_digest", (cards, _CARD_KEY_CHECK))
    return check[:CARD_KEY_CHECK_BYTES]


def unseal_pan(token: TokenOperations, vault: KeyRef, xid: bytes, blob: bytes) -> Steps[Pan]:
    """The PAN that was sealed for the order `xid`.

    :raises BlobError: the blob is not one of this key for this XID.
    """
    pan = None
    with contextlib.suppress(DecodingFailure, ShetabError, UnicodeDecodeError):
        digits: bytes = yield Call(token, "aes_gcm_decrypt", (vault, blob, _PAN_CONTEXT + xid))
        pan = Pan.parse(digits.decode("ascii"))
    # Raised out here, so that no exception that has seen the PAN is its context.
    if pan is None:
        raise BlobError
    return pan


def message_mac(
    token: TokenOperations, zone_mac: KeyRef, data: bytes, algorithm: MacAlgorithm = MacAlgorithm.AES_CMAC
) -> Steps[bytes]:
    """The MAC of an ISO 8583 message under the zone MAC key, 8 bytes.

    AES-CMAC (RFC 4493), its first 8 bytes, or ANSI X9.19.

    :raises MacFormatError: X9.19 with padding method 1 of no data at all.
    """
    padding = algorithm.padding
    if padding is None:
        mac: bytes = yield Call(token, "aes_cmac", (zone_mac, data))
        return mac[:MAC_BYTES]
    mac = yield Call(token, "retail_mac", (zone_mac, padded(data, padding)))
    return mac


def _open(
    order: VerifiedOrder, keys: OrderKeys, accepts_bin: Callable[[str], bool], now: datetime
) -> Steps[OpenedCard]:
    envelope = order.envelope
    sealed = (envelope.suite, envelope.encrypted_key, envelope.nonce, envelope.ciphertext, envelope.tag)
    try:
        plaintext: bytes = yield Call(keys.token, "unwrap_and_decrypt_gcm", (keys.encryption, *sealed))
        return check_opened(plaintext, order, accepts_bin=accepts_bin, now=now)
    except DecodingFailure:
        cause = "G8 decodingFailure"
    except SealedContentError as error:
        cause = f"{error.check} {error.code.protocol_name}"
    # Outside the except clause: what is raised there would carry the frames that hold the plaintext as its context.
    raise DecodingFailedError(cause)
