"""The Certification Practice Statement that this release carries."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from cps.model import Pack, load_pack

PACK = "kwbp-cps-1.0.0.yaml"


@cache
def statement() -> Pack:
    """The policy pack in force."""
    return load_pack((files("cps") / "packs" / PACK).read_bytes())
