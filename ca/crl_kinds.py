"""Names of the lists that an authority signs, and how long it keeps the bytes of large ones.

By themselves, because whoever reads lists needs them, and no database.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

FULL: Final = "full"
DELTA: Final = "delta"
KEPT: Final = timedelta(days=30)
"""After its nextUpdate."""
