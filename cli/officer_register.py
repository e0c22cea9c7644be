"""What the registration authority's register of officers begins with: those of the ceremonies, and its blinding key."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.hierarchy import Hierarchy
from ra.records import NewCertificate
from runtime.secrets import SecretFileError, read_secret, write_secret
from runtime.settings import Home

_BYTES: Final = 32


def blinding(home: Home) -> bytes:
    """The key under which officers' national codes are compared; made when it is first asked for."""
    path = home.secrets / "officers-blinding"
    if not path.exists():
        with contextlib.suppress(SecretFileError):  # another process made it meanwhile
            write_secret(path, os.urandom(_BYTES).hex().encode() + b"\n")
    return bytes.fromhex(read_secret(path).reveal().decode("ascii"))


def founders(home: Home, hierarchy: Hierarchy) -> list[NewCertificate]:
    """The officers who were certified at a ceremony, as the published hierarchy has them."""
    names = {each.certificate.subject: each.name for each in hierarchy.authorities.values()}
    found = []
    for path in sorted((home.pki / "officers").glob("*.pem")):
        leaf, *chain = x509.load_pem_x509_certificates(path.read_bytes())
        found.append(
            NewCertificate(
                issuer=names[leaf.issuer],
                serial=f"{leaf.serial_number:x}",
                purpose="signing",
                der=leaf.public_bytes(Encoding.DER),
                chain=tuple(each.public_bytes(Encoding.DER) for each in chain),
            )
        )
    return found
