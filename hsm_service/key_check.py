"""The check on a clock: are the keys in the tokens still what the registry says?

A thread looks at every key again and again (`Vault.check_keys`), and at once when it is woken, for example because a
token came back. What is wrong serves nobody from then on, is an error in the log and counts in the metric; when it is
right again, it serves again. Nobody who signs waits for the check.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

import prometheus_client

from hsm_service.key_places import Fault
from runtime.logging import get_logger

INTERVAL: Final = 60.0
"""Seconds between two checks."""

UNUSABLE: Final = prometheus_client.Gauge(
    "kwbp_hsm_keys_unusable", "Enabled keys that do not serve in a token, and token keys that nobody knows", ["reason"]
)
UNFIT: Final = prometheus_client.Gauge(
    "kwbp_hsm_keys_unfit", "Enabled keys whose purpose their token was seen not to serve", ["token"]
)
_log = get_logger("key-check")
_told: dict[str, str] = {}


def report(faults: Mapping[Fault, int]) -> None:
    """Set the metric to what a check found."""
    for fault, count in faults.items():
        UNUSABLE.labels(fault.value).set(count)


def report_unfit(token: str, unfit: Mapping[str, str]) -> None:
    """Set the metric to how many keys of `token` it cannot serve (by label, with the reason); each is logged once."""
    UNFIT.labels(token).set(len(unfit))
    for label, reason in unfit.items():
        if _told.get(label) != reason:
            _told[label] = reason
            _log.error("key is of a purpose that its token cannot serve", key=label, token=token, reason=reason)


class KeyCheck:
    """Runs `check` every `interval` seconds in a thread of its own, until it is closed."""

    def __init__(self, check: Callable[[], None], interval: float = INTERVAL) -> None:
        self._check = check
        self._interval = interval
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="key-check", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Check now instead of at the next time; from any thread."""
        self._wanted.set()

    def close(self) -> None:
        """Ends the thread; waits for a check that is under way."""
        self._closed = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait(self._interval)
            self._wanted.clear()
            if self._closed:
                return
            try:
                self._check()
            except Exception:  # whatever it was, the next check must come
                _log.exception("the keys could not be checked")
