"""Where the keys and certificates of this machine's officers are."""

from __future__ import annotations

from pathlib import Path

from cli.state import Installation
from runtime.client import TlsFiles
from runtime.secrets import Secret


def folder(found: Installation) -> Path:
    """The officers' folder of an installation."""
    return found.home.path / "officers"


def key_path(found: Installation, person: str) -> Path:
    """An officer's key file, encrypted PKCS#8."""
    return folder(found) / f"{person}.key"


def identity(found: Installation, person: str, passphrase: Secret) -> TlsFiles:
    """The officer as a TLS client: certificate chain and (encrypted) key."""
    return TlsFiles(
        folder(found) / f"{person}.pem", key_path(found, person), found.home.trust_anchors, passphrase=passphrase
    )
