"""Finding an entry in a log on disk and proving it: what `kwbp audit prove` does, also while the log is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from audit import merkle
from audit.checkpoint_files import CheckpointFiles
from audit.errors import BrokenJournalError, NoteError
from audit.log_key import LogKey
from audit.merkle import leaf_hash, verify_inclusion
from audit.proof import Proof, make
from audit.tiles import TileFolder
from audit.verify import lines

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


def find(path: Path, reference: str) -> list[int]:
    """The entries of the log `path` that `reference` means: an entry's number, or a SHA-256 (64 hex digits) of what
    was signed, opened or made, which stands in its records. Raises ValueError for anything else."""
    if _INDEX.fullmatch(reference):
        return [int(reference)]
    if not _DIGEST.fullmatch(reference):
        raise ValueError("name an entry by its number, or by a SHA-256 of what went in or came out (64 hex digits)")
    wanted = f'"{reference.lower()}"'.encode("ascii")
    with path.open("rb") as file:
        return [index for index, line in enumerate(lines(file)) if wanted in line]


def prove(path: Path, index: int, key: LogKey) -> Proof:
    """The proof that entry `index` is in the tree of the log's newest signed checkpoint.

    Raises NoteError if no checkpoint covers the entry, BrokenJournalError if the tiles do not give the tree.
    """
    signed, _ = CheckpointFiles(path).read(key.verifier)
    if signed is None:
        raise NoteError("not-signed", f"no checkpoint of {path.stem} was signed yet")
    size, root = signed.checkpoint.size, signed.checkpoint.root
    if index >= size:
        raise NoteError("not-signed", f"the newest checkpoint covers {size} entries, not yet number {index}")
    tiles = TileFolder.of(path)
    line = tiles.entry(index, size)
    hashes = merkle.inclusion_proof(index, size, lambda level, at: tiles.node(level, at, size))
    if not verify_inclusion(index, size, leaf_hash(line), hashes, root):
        raise BrokenJournalError(index, "tile-altered", "the tiles do not give the tree of the checkpoint")
    return make(key.name, key.chain, line.decode("utf-8"), index, hashes, signed.note)
