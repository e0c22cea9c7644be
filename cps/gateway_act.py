"""What an officer signs to act at a payment gateway: the content of id-kwbp-ct-gatewayAct.

    GatewayActTBS ::= SEQUENCE {
      version  INTEGER (1),
      gateway  UTF8String (SIZE(1..64)),     -- its id, so that no other gateway takes the statement
      method   UTF8String (SIZE(1..8)),
      target   UTF8String (SIZE(1..512)),    -- path and query as they travel: the order, file or difference is in it
      body     OCTET STRING (SIZE(32)),      -- SHA-256 of the body as it travels, also of an empty one
      nonce    OCTET STRING (SIZE(16)),
      date     GeneralizedTime,
      expires  GeneralizedTime }

It is the content of a CMS SignedData by the officer's own key, wherever that lives: one statement for one act, once,
for `LASTS` at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from cryptography.hazmat import asn1

from cps.decision import VERSION, instant_of, time_of
from cps.errors import StatementError
from pki.der import decode, encode
from pki.errors import DerError

LASTS: Final = timedelta(minutes=2)
NONCE: Final = 16
MAX_SIZE: Final = 1024


@asn1.sequence
class GatewayActTBS:
    """DER form of an act."""

    version: int
    gateway: Annotated[str, asn1.Size(min=1, max=64)]
    method: Annotated[str, asn1.Size(min=1, max=8)]
    target: Annotated[str, asn1.Size(min=1, max=512)]
    body: Annotated[bytes, asn1.Size(min=32, max=32)]
    nonce: Annotated[bytes, asn1.Size(min=16, max=16)]
    date: asn1.GeneralizedTime
    expires: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class GatewayAct:
    """One act at one gateway; `body` is the SHA-256 of the request's body, times are aware UTC in whole seconds."""

    gateway: str
    method: str
    target: str
    body: bytes
    nonce: bytes
    date: datetime
    expires: datetime


def build_gateway_act(act: GatewayAct) -> bytes:
    """DER of GatewayActTBS. Raises ValueError if a time is not aware or no whole second, StatementError on sizes."""
    tbs = GatewayActTBS(
        version=VERSION,
        gateway=act.gateway,
        method=act.method,
        target=act.target,
        body=act.body,
        nonce=act.nonce,
        date=time_of(act.date),
        expires=time_of(act.expires),
    )
    try:
        return encode(tbs)
    except ValueError:
        raise StatementError("a field is longer or shorter than the statement allows") from None


def parse_gateway_act(der: bytes) -> GatewayAct:
    """Read GatewayActTBS. Raises StatementError unless it is exactly one, of version 1."""
    try:
        tbs = decode(GatewayActTBS, der, limit=MAX_SIZE)
    except DerError:
        raise StatementError("not a {kind} in DER", kind="GatewayActTBS") from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind="GatewayActTBS", found=tbs.version, expected=VERSION
        )
    date, expires = instant_of(tbs.date), instant_of(tbs.expires)
    return GatewayAct(tbs.gateway, tbs.method, tbs.target, tbs.body, tbs.nonce, date, expires)
