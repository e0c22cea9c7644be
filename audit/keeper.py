"""A service's log from start to end: anchored before it is opened, signed and witnessed while it is open.

with LogKeeper.prepare("ca", home, settings.witness.url) as keeper:
    record = Record.open(home.audit / "ca.jsonl", extends=keeper.extends)
    keeper.keep(record.journal, sign)
    …
    keeper.close()          # before the log is closed: what is left gets its signature
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from audit.anchor import Anchor, anchor
from audit.checkpoint_files import CheckpointFiles
from audit.checkpointer import Checkpointer, Log, Sign
from audit.log_key import LogKey, key_name, load
from audit.note import VerifierKey
from audit.witness_client import WitnessClient
from audit.witness_service import read_vkey
from runtime.client import http_client
from runtime.logging import get_logger
from runtime.settings import Home

PATIENCE: Final = 3.0
"""Seconds that a start waits for the witness, which may be starting too."""
_TIMEOUT: Final = 5.0  # seconds for an answer of the witness
_log: Final = get_logger("audit")


def log_path(home: Home, log: str) -> Path:
    """Where the log of a service is."""
    return home.audit / f"{log}.jsonl"


def pinned_witness(home: Home) -> VerifierKey | None:
    """The key of the witness whose cosignatures the services of this installation trust; None if there is none."""
    path = home.audit / "witness.vkey"
    return read_vkey(path) if path.exists() else None


def pin_witness(home: Home, witness: VerifierKey) -> None:
    """Trust this witness, and no other."""
    home.audit.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home.audit / "witness.vkey").write_text(f"{witness.encode()}\n", encoding="utf-8")


class LogKeeper:
    """What keeps one log. Make it with `prepare`."""

    def __init__(self, key: LogKey, files: CheckpointFiles, found: Anchor, witness: WitnessClient | None) -> None:
        self.key = key
        self._files = files
        self._found = found
        self._witness = witness
        self._checkpointer: Checkpointer | None = None

    @classmethod
    def prepare(
        cls,
        log: str,
        home: Home,
        witness_url: str,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """The keeper of the log `log` (`hsm`, `ca`, …), and what the log must extend, asked of the witness.

        Raises NoteError (no certificate of the log's key, a checkpoint file that is none), WitnessError, ForkError.
        """
        key = load(key_name(log), home.pki, now=clock())
        files = CheckpointFiles(log_path(home, log))
        pinned = pinned_witness(home)
        witness = None
        if pinned is None:
            _log.warning("no witness is pinned: an older copy of the log would not be noticed", log=key.origin)
        else:
            witness = WitnessClient(http_client(None, witness_url, timeout=_TIMEOUT), pinned, clock=time.time)
        try:
            found = anchor(files, key.verifier, witness, patience=patience)
        except BaseException:
            if witness is not None:
                witness.close()
            raise
        return cls(key, files, found, witness)

    @property
    def extends(self) -> tuple[int, bytes]:
        """Size and root of the tree that the log must extend: for `Journal.open`."""
        return self._found.head.size, self._found.head.root

    def keep(self, log: Log, sign: Sign, *, own: int = 0) -> None:
        """Have the open log signed from now on; see `Checkpointer`."""
        self._checkpointer = Checkpointer(
            log,
            self._files,
            self.key.verifier,
            sign,
            witness=self._witness,
            asked=self._found.asked,
            own=own,
        )
        self._checkpointer.start()

    def close(self) -> None:
        """Have what is left signed, and end. May be called twice."""
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            checkpointer.close()
        witness, self._witness = self._witness, None
        if witness is not None:
            witness.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
