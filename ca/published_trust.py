"""What the published hierarchy (`ca.hierarchy`) lets a service on the same machine believe at this moment."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from ca.hierarchy import load_hierarchy
from pki.crl import CrlSet
from pki.path import Trust


def published_trust(folder: Path) -> Trust:
    """The pinned root, the authorities and their newest CRLs, read now.

    A CRL that is missing or unreadable is left out: nothing below its authority is believed then (`crl_missing`).
    Raises StoreError if there is no hierarchy.
    """
    hierarchy = load_hierarchy(folder)
    crls = []
    for name in hierarchy.authorities:
        try:
            crls.append(x509.load_der_x509_crl((folder / "crls" / f"{name}.crl").read_bytes()))
        except (OSError, ValueError):
            continue
    return hierarchy.trust(CrlSet(crls))
