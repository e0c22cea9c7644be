"""Has the checkpoints of an open log signed and witnessed, while the log goes on.

A thread beside the journal. Whenever the log grew, at least every second or every 1,000 entries, it has the tree signed
by the log's token key, publishes the checkpoint, asks the witness for a cosignature, and publishes that. Appends never
wait for it. What was appended since the last checkpoint is the unsigned tail: it is protected by the log's head alone.

    normally            at most a second, or 1,000 entries
    token or HSM away   as long as that lasts; payments go on as far as they can, the tail and the failures are metrics
                        (`kwbp_log_unsigned_entries`, `kwbp_log_failures_total`) and warnings; tried again soon
    witness away        checkpoints are signed all the same; `kwbp_log_unwitnessed_entries` grows
    the log is forked   at once an alarm, and nothing is recorded any more: the service stops acting, readiness is red

A fork is only ever concluded from what the log's own key signed: a checkpoint that the witness hands out, or the last
one that the token remembers, which this log does not extend.

The log of the service that signs grows by being signed: by an intent and an outcome a checkpoint (`own`). A tail that
is nothing else needs no checkpoint of its own, or an idle system would sign for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from prometheus_client import Counter, Gauge

from audit.checkpoint import EMPTY, Checkpoint, Progress, TreeHead
from audit.checkpoint_files import CheckpointFiles, SignedCheckpoint
from audit.errors import AuditError, ForkError, NoteError, WitnessError
from audit.note import Note, Signature, VerifierKey
from audit.witness_client import AwayError, ConflictError, Witnessing
from runtime.logging import get_logger
from runtime.problems import Problem

INTERVAL: Final = 1.0
"""Seconds: no entry of a growing log is left unsigned for longer while all is well."""
ENTRIES: Final = 1_000
"""So many entries are signed sooner."""

_TICK: Final = 0.1  # seconds between looks at the log's size
_LONGEST_PAUSE: Final = 30.0
_NOT_NEXT: Final = "checkpoint-not-next"
_NOT_CONSISTENT: Final = "not-consistent"

_unsigned: Final = Gauge("kwbp_log_unsigned_entries", "Entries that no signed checkpoint covers", ["log"])
_unwitnessed: Final = Gauge("kwbp_log_unwitnessed_entries", "Entries that no cosigned checkpoint covers", ["log"])
_signed: Final = Counter("kwbp_log_checkpoints_total", "Checkpoints that were signed", ["log"])
_failures: Final = Counter("kwbp_log_failures_total", "Failed attempts to have a checkpoint signed", ["log", "by"])
_forked: Final = Gauge(
    "kwbp_log_forked", "1 once the log was found not to extend a checkpoint that was signed", ["log"]
)
_log: Final = get_logger("audit")

Sign = Callable[[bytes], bytes]
"""Has the log's key sign a checkpoint: takes `Progress.encode()`, returns the note; raises Problem."""


class Log(Protocol):
    """What is needed of an open log; `audit.Journal` is one."""

    @property
    def head(self) -> TreeHead: ...

    def root(self, size: int | None = None) -> bytes: ...

    def consistency_proof(self, first: int, second: int | None = None) -> Sequence[bytes]: ...

    def publish(self, note: bytes) -> None: ...

    def close(self) -> None: ...


class Checkpointer:
    """Signs one log. `step` does what is due; `start` has a thread do it until `close`."""

    def __init__(
        self,
        log: Log,
        files: CheckpointFiles,
        key: VerifierKey,
        sign: Sign,
        *,
        witness: Witnessing | None = None,
        asked: bool = True,
        own: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` verifies the log's checkpoints; its name is the origin. `asked`: the witness was asked at the start.

        `own` is how many entries a signature adds to this very log. `clock` gives seconds. Raises NoteError for a
        checkpoint file that is none.
        """
        self._tree = log
        self._files = files
        self._key = key
        self._sign = sign
        self._witness = witness
        self._asked = asked or witness is None
        self._own = own
        self._clock = clock
        self._last, witnessed = files.read(key)
        # What another witness cosigned, before this one was pinned, this one has not seen.
        known = witnessed is not None and (witness is None or witnessed.note.signed_by(witness.verifier))
        self._witnessed = witnessed.checkpoint.head if witnessed is not None and known else EMPTY
        self._pauses = {"token": _Pause(clock), "witness": _Pause(clock)}
        self._signed_at = clock() - INTERVAL
        self.forked = False  # whether the log was found to be another than the one that was signed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"checkpoints {key.name}", daemon=True)
        self._measure()

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Have what is left signed, once, and end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self.forked:
            self.step(last=True)

    def step(self, *, last: bool = False) -> None:
        """Do what is due: a signature, a cosignature. With `last` what there is is signed, however little.

        Never raises: what failed is told in metrics and in the log of the process, and tried again later.
        """
        try:
            if not self._asked and self._pauses["witness"].over:
                self._attempt("witness", self._ask)
            if self._due(last) and self._pauses["token"].over:
                self._attempt("token", self._sign_tree)
            if self._to_be_witnessed and self._pauses["witness"].over:
                self._attempt("witness", self._have_witnessed)
        except ForkError as error:
            self._fork(error)
        self._measure()

    def _run(self) -> None:
        while not self._stop.wait(_TICK):
            self.step()

    def _attempt(self, by: str, act: Callable[[], None]) -> None:
        try:
            act()
        except ForkError:
            raise
        except Exception as error:  # the thread goes on, whatever it is; of the unexpected only the type is told
            foreseen = isinstance(error, Problem | AuditError | OSError)
            reason = f"{type(error).__name__}: {error}" if foreseen else type(error).__name__
            _failures.labels(self._key.name, by).inc()
            if self._pauses[by].failed():
                _log.warning("checkpoint not signed", log=self._key.name, by=by, reason=reason)
        else:
            self._pauses[by].succeeded()

    # -- signing -------------------------------------------------------------------------------------------------------

    @property
    def _signed_size(self) -> int:
        return 0 if self._last is None else self._last.checkpoint.size

    def _due(self, last: bool) -> bool:
        own = self._own if self._signed_size else 0
        grown = self._tree.head.size - self._signed_size
        if grown <= own:
            return False
        return last or grown >= ENTRIES or self._clock() - self._signed_at >= INTERVAL

    def _sign_tree(self) -> None:
        head = self._tree.head
        try:
            note = self._signed_note(self._signed_size, head)
        except Problem as problem:
            size = problem.extra.get("size")
            if problem.type != _NOT_NEXT or not isinstance(size, int):
                raise
            if size > head.size:
                # The token signed more than is here. It may be what this log gained a moment ago, and if not, a fork.
                head = self._tree.head
                if size > head.size:
                    raise ForkError(f"the key signed {size} entries, the log has {head.size}") from None
            note = self._signed_note(size, head)
        self._tree.publish(note.encode())
        self._last = SignedCheckpoint.of(note, self._key)
        self._signed_at = self._clock()
        _signed.labels(self._key.name).inc()

    def _signed_note(self, old: int, head: TreeHead) -> Note:
        """The signed checkpoint of `head`, proven to extend the tree of `old` entries."""
        text = Checkpoint(self._key.name, head.size, head.root).text
        try:
            signed = self._sign(Progress(old, tuple(self._tree.consistency_proof(old, head.size)), text).encode())
        except Problem as problem:
            if problem.type == _NOT_CONSISTENT:
                raise ForkError(f"the key signed {old} entries that are not the first of this log") from None
            raise
        note = Note.parse(signed)
        if note.text != text:
            raise NoteError("bad-checkpoint", "another checkpoint was signed than the one that was asked for")
        note.verify(self._key)
        return note

    # -- witnessing ----------------------------------------------------------------------------------------------------

    @property
    def _to_be_witnessed(self) -> bool:
        return self._witness is not None and self._asked and self._signed_size > self._witnessed.size

    def _ask(self) -> None:
        """Compare the log with the newest checkpoint that the witness has of it."""
        assert self._witness is not None
        note = self._witness.latest(self._key)
        if note is not None:
            seen = SignedCheckpoint.of(note, self._key)
            self._check_extends(seen.checkpoint.head)
            if seen.checkpoint.size > self._signed_size:
                self._adopt(seen)
        self._asked = True

    def _check_extends(self, head: TreeHead) -> None:
        here = self._tree.head
        if head.size > here.size:
            raise ForkError(f"the witness has seen {head.size} entries, the log has {here.size}")
        if self._tree.root(head.size) != head.root:
            raise ForkError(f"the first {head.size} entries are not those that the witness has seen")

    def _have_witnessed(self) -> None:
        assert self._last is not None
        assert self._witness is not None
        signed = self._last
        try:
            signature = self._cosignature(self._witnessed.size, signed)
        except ConflictError as conflict:
            self._ask()  # only what is signed counts: the size alone proves nothing
            if self._last is not signed:  # the witness had a newer one, and its cosignature
                return
            signature = self._cosignature(conflict.size, signed)
        except AwayError:
            raise
        except WitnessError:
            self._ask()
            raise
        self._adopt(SignedCheckpoint(signed.note.with_signatures(signature), signed.checkpoint))

    def _adopt(self, witnessed: SignedCheckpoint) -> None:
        """A cosigned checkpoint, not smaller than the last signed one, takes its place."""
        self._files.keep_witnessed(witnessed.note)
        self._tree.publish(witnessed.note.encode())
        self._last = witnessed
        self._witnessed = witnessed.checkpoint.head

    def _cosignature(self, old: int, signed: SignedCheckpoint) -> Signature:
        assert self._witness is not None
        proof = tuple(self._tree.consistency_proof(old, signed.checkpoint.size))
        return self._witness.add_checkpoint(Progress(old, proof, signed.note.text), signed.note)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _fork(self, error: ForkError) -> None:
        """Nothing may be recorded in this log any more: whoever must record before acting stops acting."""
        self.forked = True
        self._stop.set()
        _forked.labels(self._key.name).set(1)
        _log.critical("the log is not the one that was signed: recording stops", log=self._key.name, reason=str(error))
        self._tree.close()

    def _measure(self) -> None:
        size = self._tree.head.size
        _unsigned.labels(self._key.name).set(size - self._signed_size)
        _unwitnessed.labels(self._key.name).set(size - self._witnessed.size)


class _Pause:
    """When to try again: after a second, then ever later, up to half a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = 0.0
        self._until = float("-inf")

    @property
    def over(self) -> bool:
        """Whether it may be tried."""
        return self._clock() >= self._until

    def failed(self) -> bool:
        """Wait longer; whether this is the first failure of a row."""
        first = self._pause == 0.0
        self._pause = min(max(1.0, self._pause * 2), _LONGEST_PAUSE)
        self._until = self._clock() + self._pause
        return first

    def succeeded(self) -> None:
        """No wait."""
        self._pause = 0.0
        self._until = float("-inf")
