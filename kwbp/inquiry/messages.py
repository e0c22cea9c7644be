"""The DER structures of an inquiry."""

from __future__ import annotations

from typing import Annotated

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import PurchaseStatus
from kwbp.fields import Hash32, Id20
from kwbp.structure import SIZE_LIMIT, Structure


@asn1.sequence
class InqReqTBS(Structure):
    """id-kwbp-ct-inqReq, signed by the card or the merchant of the purchase: "how does it stand?"

    `chall` is fresh, so that an answer of yesterday is not taken for one of today.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    chall: Hash32
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_times(("date", self.date))


@asn1.sequence
class InqResTBS(Structure):
    """id-kwbp-ct-inqRes, signed by the gateway or the merchant: where the purchase stands at `date`.

    `result` is the KwbpMessage (DER) that answered the order, as it was given then: AuthRes or Error from a gateway,
    Receipt or Error from a merchant; absent as long as there is none. `gateway_status` is the gateway's own InqRes
    (SignedData), on which a merchant's word that money goes back must rest; a gateway's answer has none.
    """

    version: int
    rrpid: Id20
    xid: Id20
    merchant_id: str
    chall: Hash32
    h_inq_req: Hash32
    status: PurchaseStatus
    result: Annotated[bytes | None, asn1.Implicit(0)]
    gateway_status: Annotated[bytes | None, asn1.Implicit(1)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_size("result", self.result, smallest=1, largest=SIZE_LIMIT)
        fields.check_size("gatewayStatus", self.gateway_status, smallest=1, largest=SIZE_LIMIT)
        fields.check_times(("date", self.date))
