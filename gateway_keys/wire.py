"""The bodies of the gateway-keys API: JSON, bytes as base64. Shared by the plug-in and its client.

Card data crosses here, between two processes over mutual TLS; therefore no structure shows its fields.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shetab.zone import SWITCH_ZONE

OPEN_ORDER: Final = "/v1/gateway/orders:open"
OPEN_OTP_REQ: Final = "/v1/gateway/password-requests:open"
UNSEAL_PAN: Final = "/v1/gateway/pans:unseal"
GENERATE_MAC: Final = "/v1/gateway/macs:generate"
VERIFY_MAC: Final = "/v1/gateway/macs:verify"
SIGN_ANSWER: Final = "/v1/gateway/answers:sign"
RECEIVE_ZONE_KEY: Final = "/v1/gateway/zone-keys:receive"
TEND_ZONE_KEYS: Final = "/v1/gateway/zone-keys:tend"

WRONG_MAC: Final = "wrong-mac"
"""Type of the problem that says that nothing was signed, because the network's answer is not authentic."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _Request(_Message, frozen=True, omit_defaults=True):
    """What is at its default is left out when it is written: `hsm_service.wire.read` counts on it."""


class OpenOrderRequest(_Request, frozen=True):
    """`pi_envelope` and `dual_signature` DER, `hod` 32 bytes."""

    pi_envelope: bytes
    dual_signature: bytes
    hod: bytes


class OpenOrderAnswer(_Message, frozen=True):
    """`pan`, `expiry` (YYMM, Jalali) and `cvv2` in clear; `pin_block` 8 or 16 bytes; `pan_sealed` for `pans:unseal`.

    `card_id` tells the card from others (16 bytes) under the key of cards, of which `card_key_version` and
    `card_key_check` (8 bytes) tell whether it is the one that was counted by before.
    `zone` is that of the card's connector, under whose keys the order is to be sent: `pin_key_index` is that of its PIN
    key of the block, `mac_key_index` that of its MAC key in use; `pin_block_format` that of ISO 9564-1.
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
    zone: str = SWITCH_ZONE


class OpenPasswordRequest(_Request, frozen=True):
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


class UnsealPanRequest(_Request, frozen=True):
    """`xid` 20 bytes, `pan_sealed` as it was given."""

    xid: bytes
    pan_sealed: bytes


class UnsealPanAnswer(_Message, frozen=True):
    """The PAN in clear."""

    pan: str


class GenerateMacRequest(_Request, frozen=True):
    """`data`: the ISO 8583 message up to its MAC, of the zone `zone`."""

    data: bytes
    zone: str = SWITCH_ZONE


class GenerateMacAnswer(_Message, frozen=True):
    """`mac` 8 bytes."""

    mac: bytes


class VerifyMacRequest(_Request, frozen=True):
    """`data` and the `mac` that came with it from the zone `zone`."""

    data: bytes
    mac: bytes
    zone: str = SWITCH_ZONE


class VerifyMacAnswer(_Message, frozen=True):
    """Whether the MAC is right."""

    valid: bool


class SignAnswerRequest(_Request, frozen=True):
    """`data` and `mac` of the network's answer, from the zone `zone`; `content` is the AuthRes (DER) for `key`."""

    data: bytes
    mac: bytes
    key: str
    content: bytes
    zone: str = SWITCH_ZONE


class SignAnswerAnswer(_Message, frozen=True):
    """`signed` is the SignedData (DER); there is none without a right MAC."""

    signed: bytes


class ReceiveZoneKeyRequest(_Request, frozen=True):
    """`key` is zone-pin or zone-mac; `wrapped` under the zone master key (RFC 3394); `check_value` 3 or 6 bytes."""

    key: str
    index: int
    wrapped: bytes
    check_value: bytes
    zone: str = SWITCH_ZONE


class TendZoneKeysRequest(_Request, frozen=True):
    """That it be done for the zone `zone`."""

    zone: str = SWITCH_ZONE


class ZoneKeyAnswer(_Message, frozen=True):
    """The zone key in use: `check_value` 6 or 12 hexadecimal digits, `since` ISO 8601.

    `replaced_still_valid` counts those before it that are not destroyed yet.
    """

    key: str
    index: int
    check_value: str
    since: str
    replaced_still_valid: int
    zone: str = SWITCH_ZONE


class ZoneKeysAnswer(_Message, frozen=True):
    """Both keys of a zone in use."""

    keys: list[ZoneKeyAnswer]
