"""Logs with checkpoints that a key in software signs."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from audit import Journal
from audit.checkpoint import Checkpoint
from audit.note import Note, VerifierKey, log_signature


@dataclass(frozen=True, slots=True)
class LogSigner:
    """The key of a log."""

    private_key: ec.EllipticCurvePrivateKey
    key: VerifierKey

    @classmethod
    def generate(cls, origin: str) -> LogSigner:
        """A new key of the log `origin`."""
        private_key = ec.generate_private_key(ec.SECP256R1())
        return cls(private_key, VerifierKey.log(origin, private_key.public_key()))

    def sign(self, size: int, root: bytes) -> bytes:
        """A signed checkpoint."""
        text = Checkpoint(self.key.name, size, root).text
        signature = log_signature(self.key, self.private_key.sign(text.encode(), ec.ECDSA(SHA256())))
        return Note(text, (signature,)).encode()

    def publish(self, journal: Journal) -> None:
        """Sign what the journal has on the disk."""
        journal.publish(self.sign(journal.size, journal.root()))
