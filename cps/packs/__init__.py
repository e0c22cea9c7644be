"""The published policy packs and their texts, as package data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from cps.model import Pack, load_pack
from cps.statement_text import StatementText, load_texts

CURRENT: Final = "kwbp-cps-1.0.0"


@cache
def published(name: str = CURRENT) -> Pack:
    """The pack published under `name` (`<id>-<version>`), by default the one in force. Raises PackError."""
    return load_pack(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


@cache
def published_texts(name: str = CURRENT) -> StatementText:
    """The sentences of the pack published under `name`, in every language. Raises PackError."""
    folder = files(__package__).joinpath(f"{name}.texts")
    found = sorted((each for each in folder.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name)
    return load_texts({each.name.removesuffix(".yaml"): each.read_bytes() for each in found})
