"""Where a merchant server finds its keys and certificates."""

from __future__ import annotations

from pathlib import Path

from runtime.settings import Home


def tls_name(name: str) -> str:
    """Name of the TLS files of the merchant server `name`."""
    return f"merchant-{name}"


def key_files(home: Home, name: str) -> tuple[Path, Path]:
    """Signing key and chain of a merchant that keeps its own key."""
    folder = home.path / "merchants"
    return folder / f"{name}.key", folder / f"{name}.pem"
