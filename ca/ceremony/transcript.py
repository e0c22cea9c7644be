"""The record of a ceremony: one entry a step, each carrying the digest of the one before.

    {"format": "kwbp-ceremony-transcript-1", "entries": [{"number": 0, "at": "…Z", "step": "…", "outcome": {…},
     "previous": "<64 hex>", "digest": "<64 hex>"}, …]}

`digest` is SHA-256 over the canonical JSON (UTF-8, sorted keys, no spaces) of the entry without it; `previous` of entry
0 is 64 zeros. Altering, removing, inserting or reordering entries breaks the chain; the last digest, read aloud and
written down by the witnesses, fixes them all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ca.errors import CeremonyError

FORMAT: Final = "kwbp-ceremony-transcript-1"
_GENESIS: Final = "0" * 64
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_FIELDS: Final = {"number", "at", "step", "outcome", "previous", "digest"}


def canonical(value: Any) -> bytes:
    """Canonical JSON: UTF-8, keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, lower-case hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One step and what came of it."""

    number: int
    at: datetime
    step: str
    outcome: dict[str, Any]
    previous: str

    def document(self) -> dict[str, Any]:
        body = {
            "number": self.number,
            "at": self.at.astimezone(UTC).strftime(_TIME),
            "step": self.step,
            "outcome": self.outcome,
            "previous": self.previous,
        }
        return {**body, "digest": digest(body)}

    @property
    def digest(self) -> str:
        return str(self.document()["digest"])


class Transcript:
    """Grows by one entry a step."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    @property
    def tip(self) -> str:
        """The digest that fixes everything so far."""
        return self.entries[-1].digest if self.entries else _GENESIS

    def append(self, step: str, outcome: dict[str, Any], now: datetime) -> Entry:
        """Add what came of a step."""
        entry = Entry(len(self.entries), now.replace(microsecond=0), step, outcome, self.tip)
        self.entries.append(entry)
        return entry

    def to_json(self) -> bytes:
        """The transcript as it is published: indented for people, UTF-8."""
        document = {"format": FORMAT, "entries": [entry.document() for entry in self.entries]}
        return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_transcript(data: bytes) -> Transcript:
    """A transcript whose chain holds; raises CeremonyError naming the first entry that does not fit."""
    try:
        document = json.loads(data)
        entries = document["entries"]
        if document["format"] != FORMAT or set(document) != {"format", "entries"} or not isinstance(entries, list):
            raise CeremonyError("this is not a ceremony transcript of the format we write")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CeremonyError("this is not a ceremony transcript") from None
    transcript = Transcript()
    for number, found in enumerate(entries):
        try:
            at = datetime.strptime(found["at"], _TIME).replace(tzinfo=UTC)
            expected = Entry(number, at, found["step"], found["outcome"], transcript.tip)
            broken = set(found) != _FIELDS or expected.document() != found
        except (KeyError, TypeError, ValueError):
            broken = True
        if broken:
            raise CeremonyError(f"entry {number} of the transcript does not follow from the one before")
        transcript.entries.append(expected)
    return transcript
