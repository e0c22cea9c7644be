"""MerCertReq (row 4) and GwCertReq (row 5): the keys of a merchant or a gateway, and who wants them certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from kwbp import fields
from kwbp.common import Draft, Received, check_live, read_signed
from kwbp.registration.challenge import check_challenge
from kwbp.registration.messages import GwCertReqTBS, KeyRequest, MerCertReqTBS
from kwbp.registration.signers import GATEWAY, requested_keys, verify_own_key, verify_service
from kwbp.wrapper import KwbpMessage, check_header
from pki.oids import CT_GW_CERT_REQ, CT_MER_CERT_REQ
from pki.path import Trust

MERCHANT_PURPOSE = "merchant"
"""What the challenge of a merchant's request is made for."""
T = TypeVar("T", MerCertReqTBS, GwCertReqTBS)


@dataclass(frozen=True, slots=True)
class MerchantToEnrol:
    """What a merchant says of itself; fields as in `MerCertReqTBS`."""

    merchant_id: str
    name: str
    organisation: str
    acquirer_bin: str
    iban: str
    licence: str
    online: bool = True
    origin: str | None = None
    national_code: str | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayToEnrol:
    """What a gateway says of itself; fields as in `GwCertReqTBS`."""

    gateway_id: str
    name: str
    organisation: str
    acquirer_bin: str
    suites: tuple[str, ...]
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedMember(Generic[T]):
    """A request that its applicant signed. `digest` is SHA-256 of `signed` (the SignedData, DER).

    `keys` are SHA-256 of the SubjectPublicKeyInfo of each key to be certified, by purpose.
    """

    body: T
    signed: bytes
    digest: bytes
    keys: Mapping[str, bytes]

    @property
    def requests(self) -> dict[str, bytes]:
        """The PKCS#10 requests (DER) by purpose."""
        return _by_purpose(self.body)


def build_merchant_request(
    merchant: MerchantToEnrol,
    *,
    rrpid: bytes,
    chall_ee: bytes,
    chall_ca: bytes,
    requests: Mapping[str, bytes],
    now: datetime,
) -> Draft[MerCertReqTBS]:
    """MerCertReq (row 4), to be signed with the key of one of `requests` (PKCS#10, DER, by purpose).

    :raises ProtocolError: a field is out of form (K1).
    """
    body = MerCertReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall_ee=chall_ee,
        chall_ca=chall_ca,
        merchant_id=merchant.merchant_id,
        name=merchant.name,
        organisation=merchant.organisation,
        acquirer_bin=merchant.acquirer_bin,
        online=merchant.online,
        origin=merchant.origin,
        iban=merchant.iban,
        licence=merchant.licence,
        national_code=merchant.national_code,
        hosts=list(merchant.hosts),
        requests=_sorted(requests),
        date=fields.to_time(now),
    )
    return Draft.of(CT_MER_CERT_REQ, body, rrpid=rrpid, xid=None)


def build_gateway_request(
    gateway: GatewayToEnrol,
    *,
    rrpid: bytes,
    chall_ee: bytes,
    requests: Mapping[str, bytes],
    attestations: Sequence[bytes],
    now: datetime,
) -> Draft[GwCertReqTBS]:
    """GwCertReq (row 5), to be signed with the gateway's service key.

    :param attestations: the token service's statements about the keys (SignedData, DER).
    :raises ProtocolError: a field is out of form (K1).
    """
    body = GwCertReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        chall_ee=chall_ee,
        gateway_id=gateway.gateway_id,
        name=gateway.name,
        organisation=gateway.organisation,
        acquirer_bin=gateway.acquirer_bin,
        hosts=list(gateway.hosts),
        suites=sorted(gateway.suites),
        requests=_sorted(requests),
        attestations=list(attestations),
        date=fields.to_time(now),
    )
    return Draft.of(CT_GW_CERT_REQ, body, rrpid=rrpid, xid=None)


def receive_merchant_request(message: KwbpMessage) -> Received[MerCertReqTBS]:
    """MerCertReq: K1, K2, K4."""
    received = read_signed(MerCertReqTBS, CT_MER_CERT_REQ, message.body)
    check_header(message, CT_MER_CERT_REQ, rrpid=received.body.rrpid, xid=None)
    return received


def check_merchant_request(
    received: Received[MerCertReqTBS], *, secret: bytes, now: datetime
) -> CheckedMember[MerCertReqTBS]:
    """MerCertReq: C4, K6, C3, K7.

    :param secret: the authority's own, for its challenges.
    :raises ProtocolError: see `kwbp.checks`.
    """
    body = received.body
    keys = requested_keys(_by_purpose(body), check="C4")
    verify_own_key(received, keys.values(), check="C4")
    check_challenge(secret, MERCHANT_PURPOSE, body.chall_ee, body.chall_ca, now=now)
    check_live(received, body.date, now=now)
    return CheckedMember(body, received.signed.der, received.digest, keys)


def receive_gateway_request(message: KwbpMessage) -> Received[GwCertReqTBS]:
    """GwCertReq: K1, K2, K4."""
    received = read_signed(GwCertReqTBS, CT_GW_CERT_REQ, message.body)
    check_header(message, CT_GW_CERT_REQ, rrpid=received.body.rrpid, xid=None)
    return received


def check_gateway_request(
    received: Received[GwCertReqTBS], *, trust: Trust, now: datetime
) -> CheckedMember[GwCertReqTBS]:
    """GwCertReq: K5, K6, C4, K7.

    :raises ProtocolError: see `kwbp.checks`.
    """
    verify_service(received, GATEWAY, trust=trust, now=now, check="C4")
    keys = requested_keys(_by_purpose(received.body), check="C4")
    check_live(received, received.body.date, now=now)
    return CheckedMember(received.body, received.signed.der, received.digest, keys)


def _sorted(requests: Mapping[str, bytes]) -> list[KeyRequest]:
    return [KeyRequest(purpose=purpose, request=requests[purpose]) for purpose in sorted(requests)]


def _by_purpose(body: MerCertReqTBS | GwCertReqTBS) -> dict[str, bytes]:
    return {each.purpose: each.request for each in body.requests}
