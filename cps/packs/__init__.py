"""The published policy packs, as package data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from cps.model import Pack, load_pack

CURRENT: Final = "kwbp-cps-1.0.0"


@cache
def published(name: str = CURRENT) -> Pack:
    """The pack published under `name` (`<id>-<version>`), by default the one in force. Raises PackError."""
    return load_pack(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
