"""Where a merchant is paid to: only the account that its own certificate is bound to.

The operator types the account, and an advice that is signed stays as it is: a mistyped or foreign account must be found
before. Which certificate a merchant signs with the gateway learns from its invoices, so it can tell from the first
order on.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.schema import orders
from kwbp.common import read_signed
from kwbp.errors import ProtocolError
from kwbp.messages import InvoiceTBS
from kwbp.parties import MerchantIdentity
from kwbp.settling.advice import is_bound_to
from pki.oids import CT_INVOICE


def is_bound(connection: Connection, merchant_id: str, iban: str) -> bool:
    """Whether the certificate of the merchant's newest invoice is bound to `iban`; True while it has sent none."""
    query = (
        select(orders.c.invoice)
        .where(orders.c.merchant_id == merchant_id)
        .order_by(orders.c.received_at.desc())
        .limit(1)
    )
    invoice: bytes | None = connection.execute(query).scalar_one_or_none()
    if invoice is None:
        return True
    try:
        return is_bound_to(MerchantIdentity.of(read_signed(InvoiceTBS, CT_INVOICE, invoice).signer), iban)
    except ProtocolError:  # a certificate that is bound to no account
        return False
