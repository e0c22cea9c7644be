"""Logs with software keys: a tree that can be grown and cut, its key with certificates, and a witness in memory.

log = GrowingLog()                    # a tree of leaves, with the methods of a journal that checkpointers use
keys = LogKeys()                      # the key of the log `log-ca` below the factory's root
keys.note(log.head)                   # a checkpoint as the token signs it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256

from audit import merkle
from audit.checkpoint import Checkpoint, Progress, TreeHead
from audit.errors import BrokenJournalError
from audit.log_key import LogKey
from audit.note import Note, VerifierKey, log_signature
from tests.support.pki_factory import Credential, PkiFactory, p256


@dataclass
class GrowingLog:
    """Leaves in memory. `published` is every note that was published."""

    lines: list[bytes] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)
    closed: bool = False

    @classmethod
    def of(cls, size: int, text: str = "entry") -> GrowingLog:
        return cls([f"{text} {number}".encode() for number in range(size)])

    @property
    def hashes(self) -> list[bytes]:
        return [merkle.leaf_hash(line) for line in self.lines]

    @property
    def head(self) -> TreeHead:
        return TreeHead(len(self.lines), self.root())

    def root(self, size: int | None = None) -> bytes:
        return merkle.merkle_tree_hash(self.hashes[: len(self.lines) if size is None else size])

    def node(self, level: int, index: int) -> bytes:
        return merkle.merkle_tree_hash(self.hashes[index << level : (index + 1) << level])

    def consistency_proof(self, first: int, second: int | None = None) -> list[bytes]:
        return merkle.consistency_proof(first, len(self.lines) if second is None else second, self.node)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        return merkle.inclusion_proof(index, len(self.lines) if size is None else size, self.node)

    def publish(self, note: bytes) -> None:
        checkpoint = Checkpoint.parse(Note.parse(note).text)
        if checkpoint.root != self.root(checkpoint.size):
            raise BrokenJournalError(checkpoint.size, "checkpoint-mismatch", "not of this log")
        self.published.append(note)

    def close(self) -> None:
        self.closed = True

    def grow(self, count: int, text: str = "entry") -> None:
        self.lines += [f"{text} {len(self.lines) + number}".encode() for number in range(count)]

    def progress(self, origin: str, old: int, size: int | None = None) -> Progress:
        """The request for a signature on the tree of `size` leaves."""
        size = len(self.lines) if size is None else size
        return Progress(old, tuple(self.consistency_proof(old, size)), Checkpoint(origin, size, self.root(size)).text)


class LogKeys:
    """The key of the log `name` in software, certified by the hierarchy `pki`."""

    def __init__(self, name: str = "log-ca", pki: PkiFactory | None = None) -> None:
        self.pki = pki or PkiFactory()
        self.key = p256()
        self.credential: Credential = self.pki.service(name, dns=(), key=self.key)
        self.log_key = LogKey(name, (self.credential.certificate, *self.credential.chain))

    @property
    def verifier(self) -> VerifierKey:
        return self.log_key.verifier

    def sign(self, text: str) -> Note:
        """A note by the log's key."""
        signature = self.key.sign(text.encode(), ec.ECDSA(SHA256()))
        return Note(text, (log_signature(self.verifier, signature),))

    def note(self, head: TreeHead, extensions: Sequence[str] = ()) -> Note:
        """The signed checkpoint of a tree."""
        return self.sign(Checkpoint(self.verifier.name, head.size, head.root, tuple(extensions)).text)


def witness_key(name: str = "kwbp/witness-test") -> tuple[ed25519.Ed25519PrivateKey, VerifierKey]:
    """A witness's key and its public half."""
    key = ed25519.Ed25519PrivateKey.generate()
    return key, VerifierKey.witness(name, key.public_key())
