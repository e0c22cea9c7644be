"""ReceiptAck (row 17) at the merchant: checked, kept once, answered with nothing.

No order waits for it and none is changed by it. It is kept for the day on which somebody says that the buyer never
learnt how the purchase ended.
"""

from __future__ import annotations

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.receipt_ack import SentReceipt, check_receipt_ack
from kwbp.wrapper import KwbpMessage
from storefront.merchant import recall
from storefront.merchant.documents import Document
from storefront.merchant.resources import Resources


class ReceiptAcks:
    """Takes ReceiptAck for the orders of one merchant."""

    def __init__(self, merchant_id: str, resources: Resources) -> None:
        self._merchant_id = merchant_id
        self._resources = resources

    async def take(self, message: KwbpMessage) -> None:
        """Keep the acknowledgement; another one of the same receipt changes nothing.

        :param message: from `unwrap(…, expected=[CT_RECEIPT_ACK])`.
        :raises ProtocolError: unknownXID (V2) if there is no receipt; otherwise see `kwbp.receipt_ack`.
        """
        store = self._resources.store
        receipt = store.document(message.xid, Document.RECEIPT) if message.xid is not None else None
        if message.xid is None or receipt is None:
            raise ProtocolError(ErrorCode.UNKNOWN_XID, "V2", "no receipt was given about this XID")
        if store.document(message.xid, Document.RECEIPT_ACK) == message.body:
            return
        now = self._resources.clock()
        check_receipt_ack(
            message,
            sent=SentReceipt.load(receipt, self._merchant_id),
            card=recall.purchase(store, message.xid).card_certificate,
            trust=await self._resources.trust.trust(now),
            now=now,
        )
        await store.keep(message.xid, {Document.RECEIPT_ACK: message.body}, now=now)
        self._resources.checkpoint("receipt acknowledged")
