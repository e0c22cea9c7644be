"""A certificate's holder before the registration authority (`kwbp.holder`, row 6): how it stands, revoke it, renew it.

Whoever holds the key signs: a wallet, a merchant, a gateway. What is to change something is made once, kept by whoever
asks, and sent as often as it takes: the same bytes never revoke or renew a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import httpx
from cryptography import x509

from cps.decision import Revocation, build_revocation
from cps.model import OrderReason
from kwbp.codes import RevocationReason
from kwbp.common import Draft
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.holder import (
    CertInqReqTBS,
    CertInqResTBS,
    CheckedRenewal,
    RenewReqTBS,
    RevReqTBS,
    SentHolderRequest,
    build_renewal_request,
    build_revocation_request,
    build_status_request,
    check_renewal_answer,
    check_status_answer,
)
from kwbp.structure import Structure
from kwbp.wrapper import KwbpMessage, unwrap
from pki.extensions import authority_key_id, extensions_of
from pki.oids import (
    CT_CERT_INQ_REQ,
    CT_CERT_INQ_RES,
    CT_ERROR,
    CT_RENEW_REQ,
    CT_RENEW_RES,
    CT_REV_REQ,
    CT_REVOCATION,
)
from pki.path import Trust
from pki.roles import Role
from storefront import exchange
from storefront.errors import StorefrontError
from storefront.wallet.registration import PATH, RefusedByAuthority

T = TypeVar("T", bound=Structure)
Sign = Callable[[x509.ObjectIdentifier, bytes], bytes]
"""Signs a content (DER) of a type with the key of the certificate: SignedData, DER."""

REASONS: Final[Mapping[RevocationReason, OrderReason]] = {
    RevocationReason.KEY_COMPROMISE: "keyCompromise",
    RevocationReason.CESSATION_OF_OPERATION: "cessationOfOperation",
    RevocationReason.CERTIFICATE_HOLD: "certificateHold",
}
"""Why a holder has its certificate revoked, or suspended; whether the statement lets it is for the authority to say."""


class CertificateDesk:
    """The registration authority, seen by the holder of `certificate`."""

    def __init__(
        self,
        client: httpx.Client,
        certificate: x509.Certificate,
        sign: Sign,
        *,
        trust: Callable[[datetime], Trust],
        rng: Callable[[int], bytes],
        clock: Callable[[], datetime],
    ) -> None:
        """`trust(now)` are the believed roots, CA certificates and CRLs in force."""
        self._client = client
        self._certificate = certificate
        self._sign = sign
        self._trust = trust
        self._rng = rng
        self._clock = clock

    def status(self) -> CertInqResTBS:
        """CertInqReq: how the certificate stands.

        :raises ProtocolError: the answer does not hold. :raises RefusedByAuthority: it refused. :raises NoMessage.
        """
        draft = build_status_request(self._certificate, **self._fresh())
        return self._asked(self._signed(draft), CertInqReqTBS)

    def revocation(self, reason: RevocationReason) -> bytes:
        """RevReq, to be kept and sent by `revoke`; certificateHold suspends."""
        now = self._clock().replace(microsecond=0)
        key_id = authority_key_id(extensions_of(self._certificate))
        if key_id is None:
            raise StorefrontError("the certificate does not say which key signed it")
        order = build_revocation(Revocation(key_id, self._certificate.serial_number, REASONS[reason], now))
        draft = build_revocation_request(
            self._certificate, reason, order=self._sign(CT_REVOCATION, order), **self._fresh()
        )
        return self._signed(draft)

    def revoke(self, request: bytes) -> CertInqResTBS:
        """Send a RevReq: how the certificate stands then, which is good no more. Raises as `status`."""
        return self._asked(request, RevReqTBS)

    def renewal(self, request: bytes) -> bytes:
        """RenewReq for the key of a PKCS#10 request (DER), to be kept and sent by `renew`."""
        return self._signed(build_renewal_request(self._certificate, request, **self._fresh()))

    def renew(self, request: bytes) -> CheckedRenewal:
        """Send a RenewReq, as often as it takes: how the application stands, with the chain once it is issued."""
        found = self._post(request, CT_RENEW_RES)
        sent = SentHolderRequest.load(_signed_data(request), RenewReqTBS)
        now = self._clock()
        return check_renewal_answer(found, sent=sent, certificate=self._certificate, trust=self._trust(now), now=now)

    def _asked(self, request: bytes, kind: type[CertInqReqTBS] | type[RevReqTBS]) -> CertInqResTBS:
        found = self._post(request, CT_CERT_INQ_RES)
        sent = SentHolderRequest.load(_signed_data(request), kind)
        now = self._clock()
        return check_status_answer(found, sent=sent, trust=self._trust(now), now=now)

    def _fresh(self) -> dict[str, Any]:
        return {"rrpid": self._rng(20), "chall": self._rng(32), "now": self._clock()}

    def _signed(self, draft: Draft[T]) -> bytes:
        return draft.message(self._sign(draft.content_type, draft.content))

    def _post(self, message: bytes, expected: x509.ObjectIdentifier) -> KwbpMessage:
        found = unwrap(exchange.post(self._client, PATH, message).message, expected=[expected, CT_ERROR])
        if found.msg_type == CT_ERROR:
            now = self._clock()
            told = read_error(found, sent=message, role=Role.SERVICE, trust=self._trust(now), now=now).body
            raise RefusedByAuthority(ProtocolError(told.error_code, told.clause or "K1", "the authority refused"))
        return found


def _signed_data(message: bytes) -> bytes:
    return unwrap(message, expected=[CT_CERT_INQ_REQ, CT_REV_REQ, CT_RENEW_REQ]).body
