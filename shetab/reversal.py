"""Advices about an earlier request: the 0420 that takes it back, the 0220 that confirms it, and their repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shetab.message import Message
from shetab.subfields import OriginalDataElements, ReplacementAmounts
from shetab.types import Rial

_KEPT: Final = (2, 3, 4, 12, 13, 17, 32, 37, 41, 42, 49, 62, 100)


def reversal_advice(
    request: Message,
    *,
    stan: str,
    transmission_time: str,
    pan: str | None = None,
    coding: str | None = None,
    replacement: Rial | None = None,
) -> Message:
    """The 0420 that takes back `request` (0100, 0200, 0220 or a repeat), whatever became of it: the whole, or a part.

    Local time and date, RRN, amount, terminal and acquirer stay those of the request; DE 90 names it. Card secrets
    (expiry, CVV2, PIN block, track 2) are not in a reversal.

    :param request: the request as it was stored, with the DE 7 that was sent. It may lack DE 2, which a store keeps
        sealed and apart; then `pan` gives it.
    :param stan: DE 11 of the advice, 6 digits; :param transmission_time: DE 7, MMDDhhmmss in UTC.
    :param coding: DE 62, if not that of the request. :param replacement: DE 95, what is left of the request's amount.
    :raises ValueFormatError: `request` is a response.
    """
    fields = _about(request, stan, transmission_time, pan, coding)
    if replacement is not None:
        fields[95] = ReplacementAmounts(replacement).to_de95()
    return Message("0420", fields)


def confirmation_advice(
    request: Message, amount: Rial, *, stan: str, transmission_time: str, coding: str, pan: str | None = None
) -> Message:
    """The 0220 that takes `amount` of what `request` (0100) authorised; parameters as in `reversal_advice`."""
    fields = _about(request, stan, transmission_time, pan, coding)
    return Message("0220", {**fields, 4: amount.to_de4()})


def _about(request: Message, stan: str, transmission_time: str, pan: str | None, coding: str | None) -> dict[int, str]:
    fields: dict[int, str] = {field: request[field] for field in _KEPT if field in request}
    if pan is not None:
        fields[2] = pan
    if coding is not None:
        fields[62] = coding
    fields[7] = transmission_time
    fields[11] = stan
    fields[90] = OriginalDataElements.of(request).to_de90()
    return fields


def repeated(request: Message, *, transmission_time: str) -> Message:
    """The same request sent again: MTI with last digit 1 (0201, 0421), new DE 7, everything else unchanged, no MAC."""
    fields: Mapping[int, str] = {**request.fields, 7: transmission_time}
    return Message(f"{request.mti[:3]}1", fields, original_at=request.original_at, local_at=request.local_at)
