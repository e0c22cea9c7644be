"""Checkpoints of logs (c2sp.org/tlog-checkpoint): a log's key signs one only if it extends the last that it signed.

The log sends the text of the checkpoint and the consistency proof from the last one (`audit.checkpoint.Progress`).
Which that was is known here, from the journal of this service (`hsm_service.ledger`), and not from whoever asks: so a
log that was cut or rewritten cannot have its new tree signed, even by a service that was taken over. There is no way
around it. A log that was restored from an old copy gets a new key and, with it, a new history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from audit.checkpoint import Checkpoint, Progress, TreeHead
from audit.errors import NoteError
from audit.log_key import origin_of
from audit.merkle import verify_consistency
from audit.note import Note, VerifierKey, log_signature
from hsm_service.judging import SigningKey, refuse
from hsm_service.ledger import not_next

CLAUSE: Final = "C2SP tlog-checkpoint"
"""A log must not sign a checkpoint that is inconsistent with one that it signed before."""


@dataclass(frozen=True, slots=True)
class CheckpointOrder:
    """A checkpoint that the key may sign, if nothing newer was signed meanwhile: `previous` is what it extends."""

    text: str
    head: TreeHead
    previous: TreeHead
    verifier: VerifierKey

    def note(self, signature: bytes) -> bytes:
        """The signed note (UTF-8) for the ECDSA signature (DER) over `text`."""
        return Note(self.text, (log_signature(self.verifier, signature),)).encode()


def check_checkpoint(content: bytes, key: SigningKey, previous: TreeHead) -> CheckpointOrder:
    """An order to sign the checkpoint in `content` with `key`, whose last signed one is `previous`.

    Refused: what is not exactly one request (422), extension lines (422), another origin than this key's log (422), a
    proof that does not hold, or another root at the same size (422); a request that does not start from `previous`
    (409, with its `size`, so that the log can ask again with the proof from there).
    """
    certificates = (key.certificate, *key.chain[1:])
    try:
        origin = origin_of(key.name, certificates[-1])
        progress = Progress.parse(content)
        checkpoint = Checkpoint.parse(progress.text)
        assert isinstance(key.public_key, ec.EllipticCurvePublicKey)  # templates.yaml says ec-p256
        verifier = VerifierKey.log(origin, key.public_key)
    except NoteError as error:
        raise refuse(error.reason, error.detail, CLAUSE) from None
    if checkpoint.extensions:
        raise refuse("extension-lines", "a checkpoint of these logs has no extension lines", CLAUSE)
    if checkpoint.origin != origin:
        raise refuse("foreign-origin", f"key {key.name} signs checkpoints of {origin} alone", CLAUSE)
    if progress.old != previous.size:
        raise not_next(key.name, previous.size)
    if checkpoint.size < previous.size or not verify_consistency(
        previous.size, checkpoint.size, previous.root, checkpoint.root, progress.proof
    ):
        raise refuse("not-consistent", "the tree does not extend the one that was signed last", CLAUSE)
    return CheckpointOrder(progress.text, checkpoint.head, previous, verifier)
