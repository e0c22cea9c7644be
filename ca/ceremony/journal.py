"""The journal of a ceremony that is under way: what was planned, what was begun, what came of it. Durable, no secrets.

    {"format": "kwbp-ceremony-journal-1", "plan": "<digest>", …}          what the plan was made from
    {"begun": {"number": 1, "step": "key cas/brand", "at": "…Z", "tbs": null}}
    {"done": {"entry": {…}, "artefact": "<base64>"}}                      the transcript's entry, the certificate or CRL
    {"undo": {"at": "…Z"}}                                                from here on it is only taken back

A line is on disk before what it announces begins. Before a signature, the line holds the very bytes to be signed: who
was killed after the token had signed has the same bytes signed again, and not a second certificate. A line that a crash
cut short announces nothing, and is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ca.ceremony.transcript import Entry, Transcript
from ca.errors import CeremonyError

FORMAT: Final = "kwbp-ceremony-journal-1"
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

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open, and read what an interrupted run left. Raises CeremonyError: in use, or not a journal of ours."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        """The ceremony is over: its journal is kept beside under `name`, and the next one can begin."""
        target = self.path.with_name(name)
        self.path.rename(target)
        _sync(self.path.parent)
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
        data = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(28, os.strerror(28), str(self.path))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)  # half a line announces nothing
            raise
        if size == 0:
            _sync(self.path.parent)

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):
            os.ftruncate(self._file, len(whole))
        lines = whole.splitlines()
        try:
            documents = [json.loads(line) for line in lines]
            if documents:
                self.header = documents[0]
                if self.header is None or self.header["format"] != FORMAT:
                    raise CeremonyError(f"{self.path} is not a ceremony journal of the format we write")
            for document in documents[1:]:
                self._take(document)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CeremonyError(f"{self.path} is not a ceremony journal") from None

    def _take(self, document: dict[str, Any]) -> None:
        if "begun" in document:
            found = document["begun"]
            tbs = None if found["tbs"] is None else b64decode(found["tbs"])
            self.begun.append(Begun(found["number"], found["step"], _time(found["at"]), tbs))
        elif "done" in document:
            found = document["done"]
            stated, tip = found["entry"], self.tip
            entry = Entry(len(self.done), _time(stated["at"]), stated["step"], stated["outcome"], tip)
            if entry.document() != stated:
                raise CeremonyError(f"entry {len(self.done)} of {self.path} does not follow from the one before")
            artefact = None if found["artefact"] is None else b64decode(found["artefact"])
            self.done.append(Done(entry, artefact))
        else:
            self.undoing = _time(document["undo"]["at"])


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
