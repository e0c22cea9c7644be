"""What a log must extend before it is opened: the newest checkpoint that can be had.

A log that was replaced by an older copy of itself, with its head and its checkpoints, is whole and well-signed; only
who saw a newer one can tell. So before a service opens its log it asks the witness. If the witness is away, the newest
checkpoint beside the log has to do, the service says so, and asks again as soon as there is an answer
(`audit.checkpointer`): should the log turn out to be an old copy then, it records nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from audit.checkpoint import EMPTY, Checkpoint, TreeHead
from audit.checkpoint_files import CheckpointFiles
from audit.errors import ForkError
from audit.note import VerifierKey
from audit.witness_client import AwayError, Witnessing
from runtime.logging import get_logger

_PAUSE: Final = 0.1
_log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The head that the log must extend, and whether the witness was asked."""

    head: TreeHead
    asked: bool


def anchor(
    files: CheckpointFiles,
    log: VerifierKey,
    witness: Witnessing | None,
    *,
    patience: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Anchor:
    """The newest of the checkpoints beside the log and of the witness's; waits up to `patience` seconds for the latter.

    Raises NoteError for a checkpoint file that is none, WitnessError for an answer that is none, ForkError where two of
    one size have different roots.
    """
    known = [signed.checkpoint for signed in files.read(log) if signed is not None]
    asked = False
    waited = 0.0
    while witness is not None and not asked:
        try:
            note = witness.latest(log)
        except AwayError as error:
            if waited >= patience:
                _log.warning("witness away: the log is opened on its own checkpoint", log=log.name, reason=str(error))
                break
            sleep(_PAUSE)
            waited += _PAUSE
            continue
        asked = True
        if note is not None:
            known.append(Checkpoint.parse(note.text))
        elif known:
            _log.warning("the witness knows no checkpoint of this log, although there are some", log=log.name)
    newest = max((each.head for each in known), key=lambda head: head.size, default=EMPTY)
    if any(each.size == newest.size and each.root != newest.root for each in known):
        raise ForkError(f"two checkpoints of {log.name} with {newest.size} entries have different roots")
    return Anchor(newest, asked)
