"""A log's view of its witness: asking for cosignatures, and for what it cosigned last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from audit.checkpoint import Checkpoint, Progress, decimal
from audit.errors import NoteError, WitnessError
from audit.note import Note, Signature, VerifierKey
from audit.witness import SIZE, origin_hash

MAX_ANSWER: Final = 65_536
"""Bytes of an answer: whoever is on the way can send more."""
MAX_AGE: Final = 600
"""Seconds: a newest checkpoint was cosigned for whoever asked, so an older cosignature is somebody else's answer."""


class AwayError(WitnessError):
    """Nobody answers: it may be asked again."""


class ConflictError(WitnessError):
    """The witness cosigned another checkpoint last: one with `size` leaves."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness has seen a checkpoint of {size} entries")
        self.size = size


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Witnessing(Protocol):
    """What a log needs of a witness."""

    @property
    def verifier(self) -> VerifierKey: ...

    def latest(self, log: VerifierKey) -> Note | None: ...

    def add_checkpoint(self, progress: Progress, note: Note) -> Signature: ...


class WitnessClient:
    """A client of the witness whose key is `verifier`; safe for threads as httpx is.

    What it returns was verified with the witness's key, and with the log's. The address may be http: nobody on the way
    can make an answer up, and none can be kept for later, because each carries the time at which it was given.
    """

    def __init__(self, transport: httpx.Client, verifier: VerifierKey, *, clock: Callable[[], float]) -> None:
        self._transport = transport
        self.verifier: Final = verifier
        self._clock = clock

    def close(self) -> None:
        self._transport.close()

    def latest(self, log: VerifierKey) -> Note | None:
        """The newest checkpoint of the log that the witness cosigned; None if there is none.

        Raises AwayError, WitnessError for an answer that is not that.
        """
        answer = self._ask("GET", f"/{origin_hash(log.name)}/checkpoint")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise WitnessError(f"the witness answered {answer.status}")
        try:
            note = Note.parse(answer.body)
            note.verify(log)
            time = note.verify(self.verifier)
            origin = Checkpoint.parse(note.text).origin
        except NoteError as error:
            raise WitnessError(f"the witness gave no checkpoint: {error}") from None
        if origin != log.name:
            raise WitnessError("the witness gave the checkpoint of another log")
        if time is None or abs(self._clock() - time) > MAX_AGE:
            raise WitnessError("the witness's answer is of another time: it was kept, or a clock is wrong")
        return note

    def add_checkpoint(self, progress: Progress, note: Note) -> Signature:
        """The cosignature on `note`; `progress` proves that it extends what the witness cosigned last.

        Raises ConflictError, AwayError, WitnessError.
        """
        answer = self._ask("POST", "/add-checkpoint", progress.encode(note))
        if answer.status == 409 and answer.content_type == SIZE:
            try:
                raise ConflictError(decimal(answer.text.removesuffix("\n")))
            except NoteError:
                raise WitnessError("the witness gave no size") from None
        if answer.status != 200:
            raise WitnessError(f"the witness answered {answer.status}: {answer.text[:200].strip()}")
        try:
            return self._cosignature(note, answer.text)
        except NoteError as error:
            raise WitnessError(f"the witness gave no cosignature: {error}") from None

    def _cosignature(self, note: Note, lines: str) -> Signature:
        for line in lines.removesuffix("\n").split("\n"):
            signature = Signature.parse(line)
            if self.verifier.names(signature):
                self.verifier.verify(note.text, signature)
                return signature
        raise NoteError("not-signed", "none of the lines is by the witness that is trusted")

    def _ask(self, method: str, path: str, content: bytes | None = None) -> _Answer:
        body = bytearray()
        plain = {"accept-encoding": "identity"}
        try:
            with self._transport.stream(method, path, content=content, headers=plain) as answer:
                for part in answer.iter_raw():
                    body += part
                    if len(body) > MAX_ANSWER:
                        raise WitnessError(f"the witness's answer has more than {MAX_ANSWER} bytes")
                return _Answer(answer.status_code, answer.headers.get("content-type", ""), bytes(body))
        except httpx.TransportError as error:
            raise AwayError(f"the witness does not answer: {type(error).__name__}") from None
