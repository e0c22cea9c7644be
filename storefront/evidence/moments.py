"""Times and amounts as each reader writes them: UTC and ASCII, or Jalali, in Iran's time and Persian digits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from runtime.language import Bilingual
from shetab.errors import ValueFormatError
from shetab.jalali import IRAN_STANDARD_TIME, from_gregorian

_DIGITS: Final = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")


def moment(at: datetime) -> Bilingual:
    """An instant (aware): `2026-03-21 12:00:00 UTC`, and the same second of the Jalali calendar in Iran."""
    en = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    local = at.astimezone(IRAN_STANDARD_TIME)
    try:
        year, month, day = from_gregorian(local.date())
    except ValueFormatError:
        return Bilingual(en, en)
    fa = f"{year:04d}/{month:02d}/{day:02d} ساعت {local:%H:%M:%S} به وقت ایران"
    return Bilingual(en, fa.translate(_DIGITS))


def rial(amount: int) -> Bilingual:
    """An amount in rial: `3,250,000 rial`."""
    return Bilingual(f"{amount:,} rial", f"{amount:,} ریال".translate(_DIGITS))
