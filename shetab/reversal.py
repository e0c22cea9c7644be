"""Reversal advices: the fields of a 0420 from the request it takes back, and of each 0421 after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shetab.message import Message
from shetab.subfields import OriginalDataElements

_KEPT: Final = (2, 3, 4, 12, 13, 17, 32, 37, 41, 42, 49, 62, 100)


def reversal_advice(request: Message, *, stan: str, transmission_time: str, pan: str | None = None) -> Message:
    """The 0420 that takes back the whole of `request` (0200 or 0201), whatever became of it.

    Local time and date, RRN, amount, terminal and acquirer stay those of the request; DE 90 names it. Card secrets
    (expiry, CVV2, PIN block, track 2) are not in a reversal.

    :param request: the request as it was stored, with the DE 7 that was sent. It may lack DE 2, which a store keeps
        sealed and apart; then `pan` gives it.
    :param stan: DE 11 of the advice, 6 digits; :param transmission_time: DE 7, MMDDhhmmss in UTC.
    :raises ValueFormatError: `request` is a response.
    """
    fields: dict[int, str] = {field: request[field] for field in _KEPT if field in request}
    if pan is not None:
        fields[2] = pan
    fields[7] = transmission_time
    fields[11] = stan
    fields[90] = OriginalDataElements.of(request).to_de90()
    return Message("0420", fields)


def repeated(request: Message, *, transmission_time: str) -> Message:
    """The same request sent again: MTI with last digit 1 (0201, 0421), new DE 7, everything else unchanged, no MAC."""
    fields: Mapping[int, str] = {**request.fields, 7: transmission_time}
    return Message(f"{request.mti[:3]}1", fields)
