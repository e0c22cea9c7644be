"""One publication as files, in a folder named `<id>-<version>`:

    pack.yaml            the rules (`cps.model`)
    texts/<name>.yaml    the sentences (`cps.statement_text`)
    signed/<n>.p7s       the officers' statements, CMS SignedData (DER), in their order: `openssl cms -verify`
    stamp.tsr            TimeStampResp (DER) over all statements, one after the other: `cat signed/*.p7s` is what
                         `openssl ts -verify -data` takes

A folder appears at once with all its files, on the disk, or not at all; nothing in it changes afterwards. What begins
with a dot is a draft that somebody left half written, which nobody reads.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cps.errors import PackError
from cps.model import load_pack
from cps.publication import MAX_STATEMENTS, Candidate
from cps.statement_text import load_texts
from pki.errors import PkiError
from pki.timestamp import MAX_RESPONSE, grant, read_response

PACK: Final = "pack.yaml"
TEXTS: Final = "texts"
SIGNED: Final = "signed"
STAMP: Final = "stamp.tsr"
_LOCK: Final = ".lock"
_MAX_YAML: Final = 1024 * 1024  # bytes; the founding pack has a fiftieth, its longest text a tenth
_MAX_TEXTS: Final = 64
_MAX_STATEMENT: Final = 65_536  # bytes

Step = Callable[[str], None]
"""Told the name of each step of an installation before it is taken: where a test ends the process."""


class PublicationError(PackError):
    """The files are not those of a publication, or it cannot be installed."""


@dataclass(frozen=True, slots=True)
class PublicationFiles:
    """The bytes of all files; `statements` and `stamp` as `cps.publication.Candidate` has them."""

    pack: bytes
    texts: Mapping[str, bytes]
    statements: tuple[bytes, ...]
    stamp: bytes

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder; PublicationError if a file is missing, too large, or not what its name says."""
        try:
            texts = read_texts(folder / TEXTS)
            signed = folder / SIGNED
            names = [f"{number}.p7s" for number in range(1, MAX_STATEMENTS + 1) if (signed / f"{number}.p7s").exists()]
            if {each.name for each in signed.iterdir()} != set(names) or len(names) != _last(names):
                raise PublicationError(
                    "the signed statements are 1.p7s, 2.p7s and so on, at most {most}", most=MAX_STATEMENTS
                )
            return cls(
                pack=read_bounded(folder / PACK, _MAX_YAML),
                texts=texts,
                statements=tuple(read_bounded(signed / name, _MAX_STATEMENT) for name in names),
                stamp=read_response(read_bounded(folder / STAMP, MAX_RESPONSE)),
            )
        except OSError as error:
            raise _unreadable(error) from None
        except PkiError as error:
            raise PublicationError("{file}: {fault}", file=STAMP, fault=str(error)) from None

    def candidate(self) -> Candidate:
        """What is judged. Raises PackError if the rules or texts are not what they should be."""
        return Candidate(load_pack(self.pack), load_texts(self.texts), self.statements, self.stamp)

    def all(self) -> dict[str, bytes]:
        """Every file by its path in the folder."""
        return {
            PACK: self.pack,
            **{f"{TEXTS}/{name}.yaml": text for name, text in self.texts.items()},
            **{f"{SIGNED}/{number}.p7s": each for number, each in enumerate(self.statements, 1)},
            STAMP: grant(self.stamp),
        }


def read_texts(folder: Path) -> dict[str, bytes]:
    """The texts (`*.yaml`) of a folder by their names; raises OSError, PublicationError."""
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise PublicationError("there are no texts (*.yaml) in {folder}", folder=folder)
    if len(found) > _MAX_TEXTS:
        raise PublicationError("there are {count} texts in {folder}", count=len(found), folder=folder)
    return {each.stem: read_bounded(each, _MAX_YAML) for each in found}


def read_bounded(path: Path, most: int) -> bytes:
    """A file of at most so many bytes; raises OSError, PublicationError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise PublicationError("{file} is larger than {most} bytes", file=path.name, most=most)
    return content


def names_in(folder: Path) -> list[str]:
    """The publications of a folder by the names of their folders; none if there is no such folder."""
    try:
        return sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    except FileNotFoundError:
        return []


def install(root: Path, name: str, files: PublicationFiles, *, step: Step = lambda _name: None) -> None:
    """Put a publication into the folder `root` under `name`, durably; PublicationError if there is one of this name.

    May be ended at any point and begun again: a draft that was left is removed first. The same files again are no
    error, so whoever was interrupted after the last step asks once more.
    """
    final, draft = root / name, root / f".{name}.draft"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(root):
            if final.exists():
                if PublicationFiles.read(final).all() != files.all():
                    raise PublicationError("{name} is published already", name=name)
                return
            if draft.exists():
                step("clear")
                shutil.rmtree(draft)
            for path, content in files.all().items():
                step(path)
                _write(draft / path, content)
            for folder in (draft / TEXTS, draft / SIGNED, draft):
                _sync(folder)
            step("rename")
            draft.rename(final)
            step("sync")
            _sync(root)
    except OSError as error:
        raise _unreadable(error) from None


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One installation at a time; the lock ends with the process that holds it."""
    with (root / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _last(names: list[str]) -> int:
    return int(names[-1].removesuffix(".p7s")) if names else -1


def _unreadable(error: OSError) -> PublicationError:
    return PublicationError("{file}: {fault}", file=error.filename, fault=error.strerror)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
