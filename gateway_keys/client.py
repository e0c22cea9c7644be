"""The gateway's way to its token operations: the HSM service over mutual TLS.

Refusals come as `runtime.problems.Problem`: `order-refused` (422, `clause` names the check, `code` the protocol's error
code) while the order was still sealed, `decoding-failure` (422) from its opening on, 503 for the token's trouble.
"""

from __future__ import annotations

import contextlib
from typing import TypeVar

import httpx
import msgspec
from cryptography import x509

from gateway_keys import wire
from gateway_keys.opened import OpenedOrder, OpenedPasswordRequest
from kwbp.money import Money
from kwbp.password import AskedPassword
from runtime.client import AsyncTransport, raise_problem
from runtime.problems import Problem
from shetab.types import Cvv2, Expiry, Pan
from shetab.zone import SWITCH_ZONE

__all__ = ["GatewayKeysClient", "OpenedOrder", "OpenedPasswordRequest"]

_T = TypeVar("_T")


class GatewayKeysClient:
    """Asynchronous client; `transport` is an httpx client of the HSM service with the gateway's certificate."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def open_order(self, pi_envelope: bytes, dual_signature: bytes, hod: bytes) -> OpenedOrder:
        """Have a buyer's order opened (KWBP G8 to G10).

        :param pi_envelope: DER AuthEnvelopedData. :param dual_signature: DER SignedData. :param hod: 32 bytes.
        :raises Problem: `order-refused`, `decoding-failure`, or the service's trouble.
        """
        request = wire.OpenOrderRequest(pi_envelope=pi_envelope, dual_signature=dual_signature, hod=hod)
        answer = await self._ask(wire.OPEN_ORDER, request, wire.OpenOrderAnswer)
        return OpenedOrder(
            pan=Pan.parse(answer.pan),
            expiry=Expiry.parse(answer.expiry),
            cvv2=None if answer.cvv2 is None else Cvv2.parse(answer.cvv2),
            pin_block=answer.pin_block,
            pan_sealed=answer.pan_sealed,
            masked_pan=answer.masked_pan,
            card_id=answer.card_id,
            card_key_check=answer.card_key_check,
            card_key_version=answer.card_key_version,
            pin_key_index=answer.pin_key_index,
            mac_key_index=answer.mac_key_index,
            pin_block_format=answer.pin_block_format,
            zone=answer.zone,
        )

    async def open_password_request(self, message: bytes, merchant_id: str) -> OpenedPasswordRequest:
        """Have a holder's request for a one-time password opened and judged (KWBP P2 to P4).

        :param message: DER KwbpMessage. :param merchant_id: who passed it on.
        :raises Problem: `order-refused`, `decoding-failure`, or the service's trouble.
        """
        request = wire.OpenPasswordRequest(message=message, merchant_id=merchant_id)
        answer = await self._ask(wire.OPEN_OTP_REQ, request, wire.OpenPasswordAnswer)
        card, *chain = (x509.load_der_x509_certificate(der) for der in answer.certificates)
        return OpenedPasswordRequest(
            asked=AskedPassword(
                rrpid=answer.rrpid,
                xid=answer.xid,
                merchant_id=answer.merchant_id,
                amount=Money.rial(answer.amount),
                h_otp_req=answer.h_otp_req,
            ),
            pan=Pan.parse(answer.pan),
            expiry=Expiry.parse(answer.expiry),
            card=card,
            chain=tuple(chain),
        )

    async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
        """The PAN that was sealed for the order `xid` (20 bytes), for its reversal.

        :raises Problem: `decoding-failure` if the blob is not of this order.
        """
        request = wire.UnsealPanRequest(xid=xid, pan_sealed=blob)
        return Pan.parse((await self._ask(wire.UNSEAL_PAN, request, wire.UnsealPanAnswer)).pan)

    def of_zone(self, zone: str) -> ZoneKeysClient:
        """The keys of one zone."""
        return ZoneKeysClient(self, zone)

    async def mac(self, data: bytes, zone: str = SWITCH_ZONE) -> bytes:
        """The MAC of an ISO 8583 message, 8 bytes."""
        request = wire.GenerateMacRequest(data=data, zone=zone)
        return (await self._ask(wire.GENERATE_MAC, request, wire.GenerateMacAnswer)).mac

    async def verify_mac(self, data: bytes, mac: bytes, zone: str = SWITCH_ZONE) -> bool:
        """Whether `mac` is the MAC of `data`."""
        request = wire.VerifyMacRequest(data=data, mac=mac, zone=zone)
        return (await self._ask(wire.VERIFY_MAC, request, wire.VerifyMacAnswer)).valid

    async def sign_answer(
        self, data: bytes, mac: bytes, *, key: str, content: bytes, zone: str = SWITCH_ZONE
    ) -> bytes | None:
        """SignedData (DER) of `key` over the AuthRes `content`, if `mac` is the MAC of `data`; None if it is not.

        :raises Problem: the service's trouble, or what it refuses; whether the MAC is right is not known then.
        """
        request = wire.SignAnswerRequest(data=data, mac=mac, key=key, content=content, zone=zone)
        try:
            return (await self._ask(wire.SIGN_ANSWER, request, wire.SignAnswerAnswer)).signed
        except Problem as problem:
            if problem.type != wire.WRONG_MAC:
                raise
            return None

    async def receive_zone_key(
        self, key: str, index: int, wrapped: bytes, check_value: bytes, zone: str = SWITCH_ZONE
    ) -> wire.ZoneKeyAnswer:
        """Have a zone key taken in that the other end sent; it is in use when this returns.

        :param key: zone-pin or zone-mac. :param wrapped: under the zone master key (RFC 3394): 24 bytes or more.
        :param check_value: 3 bytes, or 6 (`shetab.zone_keys.pair_kcv`).
        :raises Problem: 422 `wrong-check-value` or 409 `wrong-key-index`: the key in use stays; the service's trouble.
        """
        request = wire.ReceiveZoneKeyRequest(key=key, index=index, wrapped=wrapped, check_value=check_value, zone=zone)
        return await self._ask(wire.RECEIVE_ZONE_KEY, request, wire.ZoneKeyAnswer)

    async def tend_zone_keys(self, zone: str = SWITCH_ZONE) -> list[wire.ZoneKeyAnswer]:
        """The keys of a zone in use; those that were replaced long enough ago are destroyed."""
        return (await self._ask(wire.TEND_ZONE_KEYS, wire.TendZoneKeysRequest(zone=zone), wire.ZoneKeysAnswer)).keys

    async def _ask(self, path: str, request: msgspec.Struct, answer: type[_T]) -> _T:
        try:
            response = await self._transport.request(
                "POST", path, content=msgspec.json.encode(request), headers={"content-type": "application/json"}
            )
        except httpx.TransportError as error:
            raise Problem(503, "hsm-unreachable", f"the HSM service does not answer: {type(error).__name__}") from None
        content = raise_problem(response).content
        decoded: _T | None = None
        with contextlib.suppress(msgspec.DecodeError):
            decoded = msgspec.json.decode(content, type=answer)
        # Raised out here, because the decoder's exception would keep the answer, and with it card data, as context.
        if decoded is None:
            raise Problem(502, "unreadable-answer", "the HSM service gave an answer of another form")
        return decoded


class ZoneKeysClient:
    """The keys of one zone: what a connector works with. It cannot be had to use another zone's."""

    def __init__(self, keys: GatewayKeysClient, zone: str) -> None:
        self._keys = keys
        self._zone = zone

    async def mac(self, data: bytes) -> bytes:
        """See `GatewayKeysClient.mac`."""
        return await self._keys.mac(data, self._zone)

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        """See `GatewayKeysClient.verify_mac`."""
        return await self._keys.verify_mac(data, mac, self._zone)

    async def receive_zone_key(self, key: str, index: int, wrapped: bytes, check_value: bytes) -> wire.ZoneKeyAnswer:
        """See `GatewayKeysClient.receive_zone_key`."""
        return await self._keys.receive_zone_key(key, index, wrapped, check_value, self._zone)

    async def tend_zone_keys(self) -> list[wire.ZoneKeyAnswer]:
        """See `GatewayKeysClient.tend_zone_keys`."""
        return await self._keys.tend_zone_keys(self._zone)
