"""The bodies of the gateway-keys API: JSON, bytes as base64. Shared by the plug-in and its client.

Card data crosses here, between two processes over mutual TLS; therefore no structure shows its fields.
"""

from __future__ import annotations

from typing import Final

import msgspec

OPEN_ORDER: Final = "/v1/gateway/orders:open"
OPEN_OTP_REQ: Final = "/v1/gateway/password-requests:open"
UNSEAL_PAN: Final = "/v1/gateway/pans:unseal"
GENERATE_MAC: Final = "/v1/gateway/macs:generate"
VERIFY_MAC: Final = "/v1/gateway/macs:verify"
RECEIVE_ZONE_KEY: Final = "/v1/gateway/zone-keys:receive"
TEND_ZONE_KEYS: Final = "/v1/gateway/zone-keys:tend"


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class OpenOrderRequest(_Message, frozen=True):
    """`pi_envelope` and `dual_signature` DER, `hod` 32 bytes."""

    pi_envelope: bytes
    dual_signature: bytes
    hod: bytes


class OpenOrderAnswer(_Message, frozen=True):
    """`pan`, `expiry` (YYMM, Jalali) and `cvv2` in clear; `pin_block` 8 or 16 bytes; `pan_sealed` for `pans:unseal`.

    `card_id` tells the card from others (16 bytes) under the key of cards, of which `card_key_version` and
    `card_key_check` (8 bytes) tell whether it is the one that was counted by before.
    `pin_key_index` is that of the zone PIN key of the block, `mac_key_index` that of the MAC key in use;
    `pin_block_format` that of ISO 9564-1.
    """

    pan: str
    expiry: str
    cvv2: str | None
    pin_block: bytes | None
    pan_sealed: bytes
    masked_pan: str
    card_id: bytes
    card_key_version: int
    card_key_check: bytes
    pin_key_index: int
    mac_key_index: int
    pin_block_format: int = 3


class OpenPasswordRequest(_Message, frozen=True):
    """`message` is the DER KwbpMessage with the OTPReq, `merchant_id` who passed it on."""

    message: bytes
    merchant_id: str


class OpenPasswordAnswer(_Message, frozen=True):
    """What a holder asks for, and of which card: `amount` in rial, `certificates` DER, the card's own first."""

    rrpid: bytes
    xid: bytes
    merchant_id: str
    amount: int
    h_otp_req: bytes
    pan: str
    expiry: str
    certificates: list[bytes]


class UnsealPanRequest(_Message, frozen=True):
    """`xid` 20 bytes, `pan_sealed` as it was given."""

    xid: bytes
    pan_sealed: bytes


class UnsealPanAnswer(_Message, frozen=True):
    """The PAN in clear."""

    pan: str


class GenerateMacRequest(_Message, frozen=True):
    """`data`: the ISO 8583 message up to its MAC."""

    data: bytes


class GenerateMacAnswer(_Message, frozen=True):
    """`mac` 8 bytes."""

    mac: bytes


class VerifyMacRequest(_Message, frozen=True):
    """`data` and the `mac` that came with it."""

    data: bytes
    mac: bytes


class VerifyMacAnswer(_Message, frozen=True):
    """Whether the MAC is right."""

    valid: bool


class ReceiveZoneKeyRequest(_Message, frozen=True):
    """`key` is zone-pin or zone-mac; `wrapped` under the zone master key (RFC 3394); `check_value` 3 or 6 bytes."""

    key: str
    index: int
    wrapped: bytes
    check_value: bytes


class TendZoneKeysRequest(_Message, frozen=True):
    """Nothing is asked but that it be done."""


class ZoneKeyAnswer(_Message, frozen=True):
    """The zone key in use: `check_value` 6 or 12 hexadecimal digits, `since` ISO 8601.

    `replaced_still_valid` counts those before it that are not destroyed yet.
    """

    key: str
    index: int
    check_value: str
    since: str
    replaced_still_valid: int


class ZoneKeysAnswer(_Message, frozen=True):
    """Both zone keys in use."""

    keys: list[ZoneKeyAnswer]
