"""Write a revocation list of any size, have it signed, and check the signature, without ever holding it.

Entries are stored as DER (`ca.crl.entry_der`); they go from the database to the file in chunks, in one snapshot
(`ca.crl_store.Listing`). The database states the size first, so the lengths at the front are right before the first
entry is read. The signature is checked over the digest that was taken on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from ca.crl import CrlFrame, header
from ca.crl_store import Listing
from ca.errors import StoreError
from ca.files import durable
from ca.prepare import Issuer
from ca.signing import crl_hash, sign_crl, sign_crl_parts
from hsm_service.service import SigningService

SMALL: Final = 128 * 1024
"""Bytes of a TBSCertList that is sent to the HSM service as one value."""
_SEQUENCE: Final = 0x30
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A TBSCertList on disk, with the digest that its signature is over."""

    path: Path
    size: int
    digest: bytes

    def parts(self) -> Iterator[bytes]:
        """Its bytes."""
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def write_tbs(path: Path, issuer: Issuer, frame: CrlFrame, listing: Listing) -> Unsigned:
    """The TBSCertList of `listing` within `frame`, which was made for its size; StoreError if it has another."""
    digest, size = hashlib.new(crl_hash(issuer.public_key).name), 0
    with path.open("wb") as file:

        def write(chunk: bytes) -> None:
            nonlocal size
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)

        write(frame.before)
        for chunk in listing.chunks:
            write(chunk)
        write(frame.after)
    if size != len(frame.before) + listing.size + len(frame.after):
        raise StoreError("the entries are not of the size that the database stated", clause="RFC 5280 5.1.2.6")
    return Unsigned(path, size, digest.digest())


def sign_file(
    unsigned: Unsigned, signer: SigningService, issuer: Issuer, path: Path, version: int | None = None
) -> str:
    """Have the list signed by this version of the issuer's key and write the CertificateList (DER) to `path`.

    Returns its SHA-256, hexadecimal. Raises as `ca.signing.sign_crl`.
    """
    sha256 = hashlib.sha256()
    if unsigned.size <= SMALL:
        tbs = unsigned.path.read_bytes()
        chunks = iter((sign_crl(signer, issuer.name, tbs, issuer.public_key, version).public_bytes(Encoding.DER),))
    else:
        after = sign_crl_parts(signer, issuer.name, unsigned.parts, unsigned.digest, issuer.public_key, version)
        chunks = _assembled(unsigned, after)
    with durable(path) as file:
        for chunk in chunks:
            file.write(chunk)
            sha256.update(chunk)
    return sha256.hexdigest()


def _assembled(unsigned: Unsigned, after: bytes) -> Iterator[bytes]:
    yield header(_SEQUENCE, unsigned.size + len(after))
    yield from unsigned.parts()
    yield after
