"""Every reader of bytes from outside, given its corpus and hostile twins of it; `scripts/bench fuzz` runs longer.

Whatever comes: only the documented refusals get out, the same bytes always mean the same, what is accepted has no other
encoding, and neither calls nor memory grow faster than the input (`tests.fuzz.oracle`). An input that was found once is
kept in `corpus/<reader>` under a name that says what it is.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.fuzz.registry import decoders
from tests.fuzz.running import bounded, judged, warm

BUDGET: Final = 100_000  # bytes a reader


@pytest.mark.parametrize("name", decoders())
def test_nothing_but_the_documented_refusals_gets_out(name: str) -> None:
    decoder = decoders()[name]
    warm(decoder)
    for data in bounded(decoder, 0, BUDGET):
        judged(decoder, data)


@pytest.mark.parametrize("name", decoders())
def test_what_is_honest_is_accepted(name: str) -> None:
    """Else the twins would be twins of nothing."""
    decoder = decoders()[name]
    honest = [path.read_bytes() for path in sorted(decoder.folder.glob("honest-*"))]
    honest += decoder.live() if decoder.live is not None else ()
    assert honest
    if name not in SIGNED_ELSEWHERE:
        for data in honest:
            decoder.decode(data)


SIGNED_ELSEWHERE: Final = ("log.signed_checkpoint",)
"""The kept note bears no signature of the log."""
