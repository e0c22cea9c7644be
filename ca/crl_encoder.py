"""Write a revocation list of any size, have it signed, and check the signature, without ever holding it.

Entries are stored as DER (`ca.crl.entry_der`); they go from the database to the file in chunks, in one snapshot
(`ca.crl_store.Listing`). The database states the size first, so the lengths at the front are right before the first
entry is read. So a long list is sent to the HSM service while it is still being written: two processors are at work on
it, and it takes as long as the slower of both. The signature is checked over the digest that was taken on the way.

The file is the CertificateList itself: room is left at its front for the one header that depends on the signature.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.hazmat.primitives.serialization import Encoding

from ca.crl import CrlFrame, header
from ca.crl_growing import GrowingFile
from ca.crl_store import Listing
from ca.errors import StoreError, TokenUnavailableError
from ca.files import durable, file_sha256
from ca.prepare import Issuer
from ca.signing import crl_hash, sign_crl, sign_crl_parts
from hsm_service.service import SigningService

SMALL: Final = 128 * 1024
"""Bytes of a TBSCertList that is sent to the HSM service as one value."""
_SEQUENCE: Final = 0x30
_CHUNK: Final = 1024 * 1024

Finish = Callable[[], str]
"""Waits for the signature and completes the CertificateList (DER) in its file, durably; returns its SHA-256 (hex).

Raises as `ca.signing.sign_crl`. To be called when the database is no longer needed: the token may take its time.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom the signature is asked of: this version of the issuer's key."""

    signer: SigningService
    issuer: Issuer
    version: int | None = None


def write_tbs(path: Path, asked: Asked, frame: CrlFrame, listing: Listing) -> Finish:
    """Write the TBSCertList of `listing` within `frame`, which was made for its size, to `path`, for `Finish` to end.

    Raises StoreError if the entries have another size, and then nothing is signed.
    """
    size = len(frame.before) + listing.size + len(frame.after)
    if size <= SMALL:
        tbs = b"".join((frame.before, *listing.chunks, frame.after))
        if len(tbs) != size:
            raise _other_size()
        return lambda: _finish_small(path, asked, tbs)
    place = len(header(_SEQUENCE, size))
    with path.open("wb") as file:
        growing = GrowingFile(file, path, place, crl_hash(asked.issuer.public_key).name)
        with growing.ended():
            meanwhile = _sign_meanwhile(asked, growing)
            growing.write(frame.before)
            for chunk in listing.chunks:
                growing.write(chunk)
            growing.write(frame.after)
            if growing.size != size:
                raise _other_size()
        os.fsync(file.fileno())  # while it is being judged
    return lambda: _finish(path, place, size, _signature(asked, growing, meanwhile))


def _sign(asked: Asked, growing: GrowingFile) -> bytes:
    """What follows the TBSCertList in the CertificateList, once there is a signature."""
    issuer = asked.issuer
    return sign_crl_parts(asked.signer, issuer.name, growing.parts, growing.digest, issuer.public_key, asked.version)


def _sign_meanwhile(asked: Asked, growing: GrowingFile) -> Future[bytes]:
    threads = ThreadPoolExecutor(1, "crl-signing")
    future = threads.submit(_sign, asked, growing)
    threads.shutdown(wait=False)  # its thread ends with the one call
    return future


def _signature(asked: Asked, growing: GrowingFile, meanwhile: Future[bytes]) -> bytes:
    try:
        return meanwhile.result()
    except TokenUnavailableError:
        # The service waits for a body only so long, and the database may have been slower. Now all is there.
        return _sign(asked, growing)


def _finish_small(path: Path, asked: Asked, tbs: bytes) -> str:
    issuer = asked.issuer
    crl = sign_crl(asked.signer, issuer.name, tbs, issuer.public_key, asked.version)
    with durable(path) as file:
        file.write(crl.public_bytes(Encoding.DER))
    return file_sha256(path)


def _finish(path: Path, place: int, size: int, after: bytes) -> str:
    head = header(_SEQUENCE, size + len(after))
    with path.open("r+b") as file:
        move_up(file, place, size, len(head) - place)
        file.seek(0)
        file.write(head)
        file.seek(len(head) + size)
        file.write(after)
        file.flush()
        os.fsync(file.fileno())
    return file_sha256(path)


def move_up(file: BinaryIO, place: int, size: int, by: int) -> None:
    """Move `size` bytes at `place` of a file `by` bytes further from its front, from the last to the first.

    With the signature a list is at times just so much longer that its length takes one octet more (X.690 8.1.3.5).
    """
    if not by:
        return
    end = place + size
    while end > place:
        start = max(place, end - _CHUNK)
        file.seek(start)
        chunk = file.read(end - start)
        file.seek(start + by)
        file.write(chunk)
        end = start


def _other_size() -> StoreError:
    return StoreError("the entries are not of the size that the database stated", clause="RFC 5280 5.1.2.6")
