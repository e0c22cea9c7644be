"""Card numbers by how they begin: the longest prefix that a table names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LONGEST_PREFIX: Final = 11
"""Digits. An issuer is told by 6 to 8 of them; what is beyond tells customers apart, not hosts."""


def longest(prefixes: Mapping[str, str], digits: str) -> str | None:
    """What the longest prefix of `digits` in the table stands for."""
    for length in range(min(len(digits), LONGEST_PREFIX), 0, -1):
        if (name := prefixes.get(digits[:length])) is not None:
            return name
    return None
