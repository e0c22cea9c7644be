"""How many operations were done with keys inside tokens, by kind; shown as `kwbp_token_operations_total`.

Counted without the metrics library, which the token's own process does not load: it starts faster, and its parent
counts for it (`supervised`).
"""

from __future__ import annotations

import threading
from collections import Counter


class OperationCounts:
    """Counts by operation ("sign", "unwrap", …). Safe for threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, operation: str, times: int = 1) -> None:
        """Count `times` more operations."""
        with self._lock:
            self._counts[operation] += times

    def snapshot(self) -> dict[str, int]:
        """The counts now."""
        with self._lock:
            return dict(self._counts)


OPERATIONS = OperationCounts()
"""Those of this process."""
