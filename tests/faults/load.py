"""Signers at work on a token: as many threads as wanted, each signature verified, each error kept."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsm_service.errors import HsmError
from tests.faults.faulty_module import wait_until

_PAUSE = 0.01
"""Seconds until who was refused comes again."""


class Load:
    """What the signers have seen so far. `sign` signs a message and raises HsmError."""

    def __init__(self, sign: Callable[[bytes], bytes], public_key: ec.EllipticCurvePublicKey) -> None:
        self._sign = sign
        self._public_key = public_key
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last = time.monotonic()
        self.signed = 0
        self.wrong = 0
        self.errors: list[HsmError] = []
        self.strange: list[BaseException] = []
        self.longest_gap = 0.0
        """Seconds without any signature, at most; for people."""

    @property
    def statuses(self) -> set[int]:
        """What errors would have told a caller."""
        return {error.status for error in self.errors}

    def goes_on(self, signatures: int = 100) -> None:
        """Wait until so many more signatures were made."""
        enough = self.signed + signatures
        wait_until(lambda: self.signed >= enough or self.strange)

    @contextmanager
    def run(self, signers: int) -> Iterator[Load]:
        """So many signers, until the end of the block; every signature was right and every error a foreseen one."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(signers)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "a signer waits for ever"
        assert self.strange == []
        assert self.wrong == 0

    def _work(self) -> None:
        while not self._stop.is_set():
            message = b"message %d" % next(self._numbers)
            try:
                signature = self._sign(message)
                self._public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            except HsmError as error:
                self.errors.append(error)
                self._stop.wait(_PAUSE)
                continue
            except InvalidSignature:
                self.wrong += 1
                continue
            except BaseException as error:
                self.strange.append(error)
                return
            with self._lock:
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - self._last)
                self._last = now
                self.signed += 1
