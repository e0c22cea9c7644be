"""The gateway that invoices name: asked for, signed (row 8), judged by the merchant before it puts its name to it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.gateway_certificates import (
    GatewayCertificates,
    SentCertificateRequest,
    build_certificate_request,
    check_certificate_answer,
    require_gateway,
)
from kwbp.parties import MerchantIdentity
from kwbp.wrapper import unwrap
from pki.oids import CT_ERROR, CT_P_CERT_RES
from pki.path import Trust
from runtime.logging import get_logger
from storefront.errors import GatewayUnreachable
from storefront.merchant.resources import Resources

_AGE: Final = timedelta(minutes=5)

_log = get_logger("gateway certificates")


class NamedGateway:
    """Asks the gateway what card data are to be sealed to, and remembers the answer for a while."""

    def __init__(self, merchant: MerchantIdentity, resources: Resources) -> None:
        self._merchant = merchant
        self._resources = resources
        self._known: GatewayCertificates | None = None
        self._known_at: datetime | None = None

    async def current(self, trust: Trust, now: datetime) -> GatewayCertificates:
        """The gateway that an invoice of `now` may name.

        One that is known stays so while the gateway cannot be asked; whatever it says, it is judged anew each time.

        :raises ProtocolError: unspecifiedFailure (I3): there is none.
        """
        known = self._known
        if known is not None and self._known_at is not None:
            aged = abs(now - self._known_at) > _AGE
            if not aged and self._is_ours(known, trust, now):
                return known
        try:
            found = await self._ask(trust, now)
        except GatewayUnreachable as error:
            _log.warning("no certificates of the gateway", reason=str(error))
            if known is None or not self._is_ours(known, trust, now):
                raise _none() from None
            return known
        except ProtocolError as error:
            _log.error("the gateway's answer is refused", check=error.check, code=error.code.protocol_name)
            raise _none() from None
        self._known, self._known_at = found, now
        return found

    async def _ask(self, trust: Trust, now: datetime) -> GatewayCertificates:
        """PCertReq and PCertRes. Raises GatewayUnreachable also for an Error: who could not answer named nobody."""
        rng, signer = self._resources.rng, self._resources.signer
        draft = build_certificate_request(rrpid=rng(20), merchant_id=self._merchant.merchant_id, chall=rng(32), now=now)
        signed = await signer.sign(draft.content_type, draft.content)
        answer = unwrap(
            await self._resources.gateway.certificates(draft.message(signed)), expected=(CT_P_CERT_RES, CT_ERROR)
        )
        if answer.msg_type == CT_ERROR:
            raise GatewayUnreachable("an error")
        return check_certificate_answer(
            answer,
            sent=SentCertificateRequest.load(signed),
            acquirer_bin=self._merchant.acquirer_bin,
            trust=trust,
            now=self._resources.clock(),
        )

    def _is_ours(self, known: GatewayCertificates, trust: Trust, now: datetime) -> bool:
        try:
            require_gateway(known, acquirer_bin=self._merchant.acquirer_bin, trust=trust, now=now)
        except ProtocolError as error:
            _log.error("the gateway's certificate is refused", check=error.check, code=error.code.protocol_name)
            return False
        return True


def _none() -> ProtocolError:
    return ProtocolError(ErrorCode.UNSPECIFIED_FAILURE, "I3", "no gateway can be named at the moment")
