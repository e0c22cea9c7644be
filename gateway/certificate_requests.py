"""PCertReq (row 8): a merchant asks what card data are to be sealed to, and gets the certificate in force, signed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from gateway.guarding.reception import receive
from gateway.identity import GatewayCertificates
from gateway.ports import TrustSource
from gateway.refusals import Refusals
from gateway.signing import AnswerSigner
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.gateway_certificates import build_certificate_answer, check_certificate_request
from kwbp.wrapper import KwbpMessage
from pki.oids import CT_P_CERT_REQ
from runtime.minute_budget import MinuteBudget

REQUESTS_A_MINUTE: Final = 60
"""Of one merchant; each costs the token a signature."""


class CertificateRequests:
    """Answers PCertReq of merchants."""

    def __init__(
        self,
        certificates: GatewayCertificates,
        *,
        signer: AnswerSigner,
        refusals: Refusals,
        trust: TrustSource,
        clock: Callable[[], datetime],
    ) -> None:
        self._certificates = certificates
        self._signer = signer
        self._refusals = refusals
        self._trust = trust
        self._clock = clock
        self._budget = MinuteBudget(REQUESTS_A_MINUTE, clock=clock)

    async def answer(self, tls_merchant_id: str, data: bytes) -> bytes:
        """PCertReq in `data` (DER KwbpMessage) to PCertRes or Error, from the merchant at the other end of the line.

        :raises Problem: 503 while something that is needed is away: send the same again.
        """
        handle = partial(self._answer, tls_merchant_id)
        return await receive(self._refusals, tls_merchant_id, data, (CT_P_CERT_REQ,), handle)

    async def _answer(self, tls_merchant_id: str, message: KwbpMessage) -> bytes:
        now = self._clock()
        trust = await self._trust.trust(now)
        request = check_certificate_request(message, tls_merchant_id=tls_merchant_id, trust=trust, now=now)
        if not self._budget.take(tls_merchant_id):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "O1", f"at most {REQUESTS_A_MINUTE} requests a minute")
        own = self._certificates
        draft = build_certificate_answer(
            request, gateway=own.encryption, encryption_chain=own.encryption_chain, now=now
        )
        return await self._signer.message(draft)
