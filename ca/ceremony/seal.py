"""Sealing: who was there signs the transcript of a ceremony, the audit key countersigns, and a time-stamp says when.

    seal/0000-0042/statement.der           what the participants signed (`pki.ceremony_seal`)
    seal/0000-0042/<person>.p7s            SignedData of a participant over it, two of them at least
    seal/0000-0042/audit.p7s               SignedData of the audit key over the same and the digests of theirs
    seal/0000-0042/audit.tsr               TimeStampResp over the bytes of audit.p7s

in the folder of the hierarchy. The first number is that of the transcript (0 is `transcript.json`, the others stand in
`transcripts/`), the second how many of its entries are sealed: a transcript that goes on is sealed anew, and its older
seals stay true. Signatures are by reference, over the digest of the last entry: so the transcript stays one file for
people. The audit key is the attestation key, which signs such a statement only if two persons signed before it.

Each step is verified before it is written (`ca.ceremony.seal_check`); a file that is there is never replaced.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ca.ceremony.transcript import Transcript, read_transcript
from ca.errors import CeremonyError
from ca.files import replace_file
from ca.hierarchy import TRANSCRIPT
from pki.ceremony_seal import PARTICIPANTS, CeremonySeal
from pki.cms_signed import parse_signed_data
from pki.der import sha256
from pki.errors import PkiError
from pki.oids import CT_CEREMONY_SEAL
from pki.timestamp import grant

SEALS: Final = "seal"
STATEMENT: Final = "statement.der"
AUDIT: Final = "audit"
"""Name of the audit key's signature; no person is called so."""
_TRANSCRIPTS: Final = "transcripts"
_CLAUSE: Final = "CPS 5.2.2"


@dataclass(frozen=True)
class Recorded:
    """A transcript of the folder: its number among them, and its file below the folder."""

    number: int
    file: str
    transcript: Transcript

    @property
    def ceremony(self) -> str:
        """The id of the ceremony, as its first entry says."""
        return str(self.transcript.entries[0].outcome.get("ceremony", self.file))

    def statement(self, entries: int | None = None) -> CeremonySeal:
        """What participants sign about the first `entries` entries, by default all."""
        count = len(self.transcript.entries) if entries is None else entries
        return CeremonySeal(self.ceremony, count, bytes.fromhex(self.transcript.entries[count - 1].digest))


@dataclass(frozen=True)
class SealFolder:
    """Where the parts of one seal are."""

    path: Path

    @property
    def audit(self) -> Path:
        return self.path / f"{AUDIT}.p7s"

    @property
    def stamp(self) -> Path:
        return self.path / f"{AUDIT}.tsr"

    @property
    def participants(self) -> dict[str, bytes]:
        """By person what that participant signed."""
        return {path.stem: path.read_bytes() for path in sorted(self.path.glob("*.p7s")) if path != self.audit}


def recorded(folder: Path) -> list[Recorded]:
    """The transcripts of all ceremonies in their order. Raises CeremonyError if a chain does not hold."""
    names = [TRANSCRIPT, *(f"{_TRANSCRIPTS}/{path.name}" for path in sorted((folder / _TRANSCRIPTS).glob("*.json")))]
    found: list[Recorded] = []
    for number, name in enumerate(names):
        try:
            transcript = read_transcript((folder / name).read_bytes())
        except OSError as error:
            raise CeremonyError(f"there is no transcript {name} in {folder}: {error.strerror}") from None
        if not transcript.entries:
            raise CeremonyError(f"the transcript {name} has no entries")
        if number and transcript.entries[0].outcome.get("after") != found[-1].transcript.tip:
            raise CeremonyError(f"{name} does not follow from the ceremony before it")
        found.append(Recorded(number, name, transcript))
    return found


def seal_folder(folder: Path, of: Recorded) -> SealFolder:
    """Where the seal over all entries of a transcript is, or will be."""
    return SealFolder(folder / SEALS / f"{of.number:04}-{len(of.transcript.entries):04}")


def participate(folder: Path, of: Recorded, person: str, signed: bytes) -> SealFolder:
    """Keep the SignedData (DER) of a participant over `of.statement()`; the caller has verified whose it is.

    Raises CeremonyError if it is over something else, the person has signed, or the seal was closed.
    """
    if person == AUDIT or "/" in person or person.startswith("."):
        raise CeremonyError("no person is called so", clause=_CLAUSE)
    statement = of.statement().to_der()
    with _alone(folder):
        seal = seal_folder(folder, of)
        if seal.audit.exists():
            raise CeremonyError("the audit key has countersigned: nobody can join any more", clause=_CLAUSE)
        if _content(signed) != statement:
            raise CeremonyError("what was signed is not this transcript")
        if person in seal.participants:
            raise CeremonyError(f"{person} has sealed this transcript already", clause=_CLAUSE)
        seal.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(seal.path / STATEMENT, statement)
        replace_file(seal.path / f"{person}.p7s", signed)
    return seal


def countersign(folder: Path, of: Recorded, sign: Callable[[bytes], bytes]) -> SealFolder:
    """Have the audit key sign; `sign` takes the CeremonySeal (DER) and gives the SignedData (DER).

    Raises CeremonyError unless two participants have signed, and what `sign` raises.
    """
    with _alone(folder):
        seal = seal_folder(folder, of)
        signed = {person: sha256(der) for person, der in seal.participants.items()}
        if len(signed) < PARTICIPANTS:
            raise CeremonyError(
                f"{len(signed)} have signed of {PARTICIPANTS} at least: 'kwbp ceremony seal --as PERSON'",
                clause=_CLAUSE,
            )
        if not seal.audit.exists():
            content = of.statement().countersigning(signed).to_der()
            made = sign(content)
            if _content(made) != content:
                raise CeremonyError("the audit key signed something else")
            replace_file(seal.audit, made)
    return seal


def stamp(seal: SealFolder, ask: Callable[[bytes], bytes]) -> None:
    """Have the audit key's signature time-stamped; `ask` takes the bytes and gives a TimeStampToken (DER)."""
    if not seal.audit.exists():
        raise CeremonyError("the audit key has not countersigned yet: there is nothing to stamp")
    if not seal.stamp.exists():
        replace_file(seal.stamp, grant(ask(seal.audit.read_bytes())))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: who joins while the audit key signs for those before would make its signature untrue."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _content(signed: bytes) -> bytes:
    try:
        return parse_signed_data(signed, content_type=CT_CEREMONY_SEAL).content
    except PkiError as error:
        raise CeremonyError(f"this is not a signed seal: {error}") from None
