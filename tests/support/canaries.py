"""Card data as they would look if they leaked: few digits are anywhere by chance, so they are searched for in company.

    traces(pan=…, expiry=…, cvv2=…, pin2=…).search(content)

finds two values of one card beside each other (in JSON, CSV, DER, the repr of a row: a few bytes between them that are
no digits, or none), and one value under its name (`"cvv2": "123"`, `expiry=0512`). A PAN alone is long enough to be
searched for by itself.
"""

from __future__ import annotations

import re
from itertools import permutations

_BETWEEN = rb"[^0-9]{1,16}"
_NAMES = rb"(?:card_?number|expiry(?:_date)?|expires|exp|cvv2?|cvc|pin2?|pin_?block)"
_ASSIGNED = rb"""["']?\s{0,2}[:=]\s{0,2}(?:[A-Za-z]{1,12}\()?["']?"""


def traces(*, pan: str, expiry: str, cvv2: str, pin2: str) -> re.Pattern[bytes]:
    """What to search for in files and on wires; a CVV2 of three digits may also stand there with a zero before it."""
    values = [_any(pan), _any(expiry), _any(cvv2, cvv2.zfill(4)), _any(pin2)]
    beside = [_alone(_whole(one) + _BETWEEN + _whole(other)) for one, other in permutations(values, 2)]
    joined = [_alone(one + other) for one, other in permutations(values, 2)]
    named = rb"(?i:%s)%s%s" % (_NAMES, _ASSIGNED, _whole(b"(?:%s)" % b"|".join(values)))
    return re.compile(b"|".join((*beside, *joined, named)))


def _any(*digits: str) -> bytes:
    return b"(?:%s)" % b"|".join(sorted({each.encode() for each in digits}, reverse=True))


def _whole(value: bytes) -> bytes:
    return rb"(?<![0-9])%s(?![0-9])" % value


def _alone(pattern: bytes) -> bytes:
    return rb"(?:(?<![0-9])%s(?![0-9]))" % pattern
