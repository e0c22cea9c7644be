"""The order with two signatures at the merchant: checked, kept once, answered with nothing.

No order waits for it and none is changed by it. It is kept for a dispute: one file that both sides have signed.
"""

from __future__ import annotations

from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.contract import take_contract
from kwbp.errors import ProtocolError
from kwbp.messages import DualSigTBS
from kwbp.wrapper import KwbpMessage
from pki.oids import CT_DUAL_SIGNATURE
from storefront.merchant import recall
from storefront.merchant.documents import Document
from storefront.merchant.resources import Resources


class Contracts:
    """Takes the contracts of one merchant's orders."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def take(self, message: KwbpMessage) -> None:
        """Keep the contract; another one about the same order changes nothing.

        :param message: from `unwrap(…, expected=[MT_CONTRACT])`.
        :raises ProtocolError: unknownXID (M2) if nothing was ordered; otherwise see `kwbp.contract`.
        """
        store = self._resources.store
        if message.xid is None or store.document(message.xid, Document.PURCHASE) is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "M2", "nothing was ordered under this XID")
        if store.document(message.xid, Document.CONTRACT) == message.body:
            return
        now = self._resources.clock()
        purchase = recall.purchase(store, message.xid)
        take_contract(
            message,
            invoice=purchase.issued.invoice,
            dual=read_signed(DualSigTBS, CT_DUAL_SIGNATURE, purchase.dual_signature),
            trust=await self._resources.trust.trust(now),
            now=now,
        )
        await store.keep(message.xid, {Document.CONTRACT: message.body}, now=now)
        self._resources.checkpoint("contract kept")
