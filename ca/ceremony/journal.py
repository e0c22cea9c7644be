"""The journal of a ceremony that is under way: what was planned, what was begun, what came of it. Durable, no secrets.

    {"format": "kwbp-ceremony-journal-2", "plan": "<digest>", …}          what the plan was made from
    {"begun": {"number": 1, "step": "key cas/brand", "at": "…Z", "tbs": null}, "after": "<64 hex>"}
    {"done": {"entry": {…}, "artefact": "<base64>"}, "after": "<64 hex>"} the transcript's entry, the certificate or CRL
    {"undo": {"at": "…Z"}, "after": "<64 hex>"}                           from here on it is only taken back

A line is on disk before what it announces begins. Before a signature, the line holds the very bytes to be signed: who
was killed after the token had signed has the same bytes signed again, and not a second certificate. A line that a crash
cut short announces nothing, and is dropped.

`after` is the SHA-256 of the line before: a line that is missing, exchanged, or of another ceremony is noticed, and the
journal refused, because whoever goes on from it would make something twice, or leave something behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ca.ceremony.transcript import Entry, Transcript, canonical
from ca.errors import CeremonyError

FORMAT: Final = "kwbp-ceremony-journal-2"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that was begun: its number in the transcript, when, and what is to be signed (DER), if anything is."""

    number: int
    step: str
    at: datetime
    tbs: bytes | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is finished: its entry, and the certificate or CRL (DER) that came of it."""

    entry: Entry
    artefact: bytes | None = None


class CeremonyJournal:
    """One ceremony's journal, held open by one process. Make it with `open`; nothing is written before `start`."""

    def __init__(self, path: Path, file: int) -> None:
        self.path: Final = path
        self._file = file
        self.header: dict[str, Any] | None = None
        self.begun: list[Begun] = []
        self.done: list[Done] = []
        self.undoing: datetime | None = None
        self._last = b""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open, and read what an interrupted run left.

        Raises CeremonyError: in use, not a journal of ours, or not with the lines that were written.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Until the lock was had, the process before could end its ceremony: this is then the file of an ended one.
            if not path.exists() or not os.path.samestat(os.fstat(file), path.stat()):
                raise BlockingIOError
            journal = cls(path, file)
            journal._read()
        except BlockingIOError:
            os.close(file)
            raise CeremonyError("a ceremony is under way in another process") from None
        except BaseException:
            os.close(file)
            raise
        return journal

    def start(self, header: dict[str, Any]) -> None:
        """Write down what is planned."""
        self.header = {"format": FORMAT, **header}
        self._write(self.header)

    def begin(self, begun: Begun) -> None:
        """Write down that a step begins."""
        tbs = None if begun.tbs is None else b64encode(begun.tbs).decode()
        at = begun.at.astimezone(UTC).strftime(_TIME)
        self._write({"begun": {"number": begun.number, "step": begun.step, "at": at, "tbs": tbs}})
        self.begun.append(begun)

    def finish(self, done: Done) -> None:
        """Write down what came of it."""
        artefact = None if done.artefact is None else b64encode(done.artefact).decode()
        self._write({"done": {"entry": done.entry.document(), "artefact": artefact}})
        self.done.append(done)

    def begin_undo(self, at: datetime) -> None:
        """Write down that nothing goes on from here."""
        if self.undoing is None:
            self._write({"undo": {"at": at.astimezone(UTC).strftime(_TIME)}})
            self.undoing = at.replace(microsecond=0)

    @property
    def open_step(self) -> Begun | None:
        """The step that was begun and not finished."""
        last = self.begun[-1] if self.begun else None
        return last if last is not None and last.number == len(self.done) else None

    @property
    def tip(self) -> str:
        """The digest that fixes the entries so far."""
        return self.done[-1].entry.digest if self.done else Transcript().tip

    @property
    def transcript(self) -> Transcript:
        """The entries so far."""
        found = Transcript()
        found.entries.extend(done.entry for done in self.done)
        return found

    def archive(self, name: str) -> Path:
        """The ceremony is over: its journal is kept beside under `name`, and the next one can begin.

        Raises CeremonyError if there is one: then this ceremony was over before, and somebody brought its journal back.
        """
        target = self.kept(name)
        self.path.rename(target)
        _sync(self.path.parent)
        return target

    def kept(self, name: str) -> Path:
        """Where the journal goes under `name`; raises CeremonyError if one is there, as `archive` does."""
        target = self.path.with_name(name)
        if target.exists():
            raise CeremonyError(
                f"this ceremony was ended already, and its journal kept in {target}: remove {self.path}"
            )
        return target

    def close(self) -> None:
        """Let go; a journal in which nothing was begun is removed."""
        if self._file >= 0:
            if self.header is None and self.path.exists():
                self.path.unlink()
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._last:
            line = {**line, "after": hashlib.sha256(self._last).hexdigest()}
        data = canonical(line) + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(28, os.strerror(28), str(self.path))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)  # half a line announces nothing
            raise
        self._last = data[:-1]
        if size == 0:
            _sync(self.path.parent)

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines()):
            try:
                document = json.loads(line)
                if self.header is None:
                    if document["format"] != FORMAT:
                        raise CeremonyError(f"{self.path} is not a ceremony journal of the format we write")
                    self.header = document
                else:
                    self._follow(number, document)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise CeremonyError(f"{self.path} is not a ceremony journal") from None
            self._last = line
        if len(whole) != len(data):
            os.ftruncate(self._file, len(whole))

    def _follow(self, number: int, document: dict[str, Any]) -> None:
        """Take in a line after the first; what is missing before it, or does not belong there, is noticed."""
        chained = document.pop("after") == hashlib.sha256(self._last).hexdigest()
        if not chained or len(document) != 1 or self.undoing is not None:
            raise self._does_not_follow(number)
        if "begun" in document:
            found = document["begun"]
            tbs = None if found["tbs"] is None else b64decode(found["tbs"])
            begun = Begun(found["number"], found["step"], _time(found["at"]), tbs)
            if begun.number != len(self.done) or self.open_step is not None or not self.done:
                raise self._does_not_follow(number)
            self.begun.append(begun)
        elif "done" in document:
            self._follow_done(number, document["done"])
        else:
            self.undoing = _time(document["undo"]["at"])

    def _follow_done(self, number: int, found: dict[str, Any]) -> None:
        stated, open_step = found["entry"], self.open_step
        entry = Entry(len(self.done), _time(stated["at"]), stated["step"], stated["outcome"], self.tip)
        opened = open_step is None if not self.done else open_step is not None and open_step.step == entry.step
        artefact = None if found["artefact"] is None else b64decode(found["artefact"])
        genuine = artefact is None or hashlib.sha256(artefact).hexdigest() == entry.outcome.get("sha256")
        if entry.document() != stated or not opened or not genuine:
            raise self._does_not_follow(number)
        self.done.append(Done(entry, artefact))

    def _does_not_follow(self, number: int) -> CeremonyError:
        return CeremonyError(
            f"line {number + 1} of {self.path} does not follow from the one before: bring the journal back as it was "
            "written; what was made is in the tokens' own log"
        )


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
