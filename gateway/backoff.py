"""How long to wait before trying again: doubling, capped, and spread so that many do not come back at once."""

from __future__ import annotations

from collections.abc import Callable


def pause(attempt: int, *, first: float, longest: float, rng: Callable[[int], bytes]) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    `first` doubles with each attempt up to `longest`; the result is between a half of that and all of it, by `rng(n)`,
    which gives n random bytes.
    """
    doublings = min(attempt - 1, 32)  # beyond this any cap is reached; keeps the power of two small
    whole: float = min(longest, first * float(1 << doublings))
    return whole * (0.5 + int.from_bytes(rng(2), "big") / 0x1FFFE)
