"""OTPReq (row 11) on its way through the merchant: passed on unread, and so is the answer.

The merchant sees which invoice it is about and for which gateway it is sealed (P1), and counts (P9), for each costs its
gateway a use of the token. It keeps nothing: the gateway answers a repeat as it did before.
"""

from __future__ import annotations

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.password import check_passed_on
from kwbp.wrapper import KwbpMessage
from runtime.minute_budget import MinuteBudget
from storefront.errors import GatewayUnreachable
from storefront.merchant import recall
from storefront.merchant.resources import Resources
from storefront.merchant.rules import ShopRules
from storefront.merchant.states import OrderState


class PasswordRelay:
    """Passes on OTPReq for the invoices of one merchant."""

    def __init__(self, rules: ShopRules, resources: Resources) -> None:
        self._resources = resources
        self._of_a_purchase = MinuteBudget(rules.passwords_of_a_purchase, clock=resources.clock)
        self._of_all = MinuteBudget(rules.passwords, clock=resources.clock)

    async def pass_on(self, message: KwbpMessage, data: bytes) -> bytes:
        """The gateway's answer (DER KwbpMessage), as it came: OTPRes or its Error.

        :param message: from `unwrap(data, expected=[CT_OTP_REQ])`.
        :raises ProtocolError: K4, P1; rateLimited (P9); unspecifiedFailure while the gateway does not answer.
        """
        order = None if message.xid is None else self._resources.store.find(message.xid)
        if order is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "P1", "no invoice has this XID")
        issued = recall.issued(self._resources.store, order.xid)
        check_passed_on(message, invoice=issued.invoice, gateway=issued.gateway, now=self._resources.clock())
        if order.state is not OrderState.INVOICED:
            raise ProtocolError(ErrorCode.XID_ALREADY_USED, "P1", "this invoice was ordered already")
        if not self._of_a_purchase.take(order.xid.hex()) or not self._of_all.take("wallets"):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "P9", "there were too many requests in this minute")
        try:
            return await self._resources.gateway.password(data)
        except GatewayUnreachable:
            raise ProtocolError(ErrorCode.UNSPECIFIED_FAILURE, "P1", "the gateway does not answer now") from None
