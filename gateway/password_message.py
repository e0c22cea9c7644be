"""The 0600 that asks the card's bank for a one-time password, and what its 0610 says.

Pure, as `gateway.translation`: clear card data go from the key service's answer into the message and are kept nowhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gateway.merchants import Merchant
from gateway.translation import times
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.password import AskedPassword
from shetab.dialect import Dialect
from shetab.errors import ValueFormatError
from shetab.message import Message
from shetab.subfields import Coding, PasswordNotice
from shetab.types import Expiry, Pan

_ONE_TIME: Final = "380000"
"""DE 3: a password for one payment."""
_IRAN: Final = "364"
_RIAL: Final = "364"
_INTERNET: Final = "59"
_GIVEN: Final = "00"
_TOO_OFTEN: Final = "65"


def password_request(
    dialect: Dialect,
    asked: AskedPassword,
    merchant: Merchant,
    *,
    acquirer: str,
    pan: Pan,
    expiry: Expiry,
    stan: str,
    rrn: str,
    now: datetime,
) -> Message:
    """The 0600: for which card, purchase, merchant and amount, and the hash by which the bank knows a repeat."""
    fields = times(now)
    fields |= {
        2: pan.reveal(),
        3: _ONE_TIME,
        4: asked.amount.to_rial().to_de4(),
        11: stan,
        14: expiry.reveal(),
        18: merchant.mcc,
        19: _IRAN,
        25: _INTERNET,
        32: acquirer,
        37: rrn,
        41: dialect.pad(41, merchant.terminal_id),
        42: dialect.pad(42, merchant.merchant_id),
        43: merchant.network_name(dialect),
        48: asked.h_otp_req.hex(),
        49: _RIAL,
        62: Coding(asked.xid).to_de62(),
        100: pan.bin,
    }
    return Message("0600", fields)


def read_password_answer(answer: Message) -> PasswordNotice:
    """What the bank told the holder, as far as it may be passed on.

    :raises ProtocolError: rateLimited (P9); unspecifiedFailure (P4) whatever else the bank has against it.
    """
    if answer[39] == _TOO_OFTEN:
        raise ProtocolError(ErrorCode.RATE_LIMITED, "P9", "the card's bank gives no more passwords for now")
    if answer[39] == _GIVEN:
        try:
            return PasswordNotice.from_de48(answer.get(48) or "")
        except ValueFormatError:
            raise ProtocolError(
                ErrorCode.UNSPECIFIED_FAILURE, "P4", "the bank's answer must say where it went"
            ) from None
    raise ProtocolError(ErrorCode.UNSPECIFIED_FAILURE, "P4", "the card's bank gives no password")
