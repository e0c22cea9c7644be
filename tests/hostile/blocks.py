"""Whether one kind of request takes longer than another, judged so that chance alone never fails a test.

Requests come in blocks, one of each kind in an order drawn by the system, so that whatever else the machine does meets
all kinds alike. For two kinds the blocks are counted in which the first took longer; if it does not really take longer,
that count is at most that of a fair coin, whatever the times are distributed like, and its tail is computed exactly
(sign test). The smallest count that chance reaches with a probability of at most `FALSE_ALARM`, over all pairs and both
directions together, is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from math import comb
from statistics import median
from typing import Final

FALSE_ALARM: Final = 1e-6
MARGIN: Final = 0.05
"""Share of the median duration that counts as no difference: what follows the opening is not free, and a network adds
more than this to every answer."""


def limit(blocks: int, comparisons: int) -> int:
    """The smallest count of `blocks` that a fair coin reaches with at most FALSE_ALARM / `comparisons`; or one more."""
    tail, count = 0, blocks + 1
    while (tail + comb(blocks, count - 1)) * comparisons <= FALSE_ALARM * 2**blocks:
        count -= 1
        tail += comb(blocks, count)
    return count


def slower(times: Mapping[str, Sequence[float]], margin: float = MARGIN) -> list[tuple[str, str]]:
    """Pairs (slower, faster) of kinds that differ by more than `margin` of the median; `times` has an entry a block."""
    pairs = list(permutations(times, 2))
    blocks = len(next(iter(times.values())))
    most = limit(blocks, len(pairs))
    gap = margin * median(value for series in times.values() for value in series)
    return [
        (one, other)
        for one, other in pairs
        if sum(a > b + gap for a, b in zip(times[one], times[other], strict=True)) >= most
    ]
