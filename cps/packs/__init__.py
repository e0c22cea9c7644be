"""The published policy packs and their texts, as package data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from cps.model import Pack, load_pack
from cps.statement_text import StatementText, load_texts

CURRENT: Final = "kwbp-cps-1.0.0"


def published_file(name: str = CURRENT) -> bytes:
    """The file of the pack published under `name`."""
    return files(__package__).joinpath(f"{name}.yaml").read_bytes()


@cache
def published(name: str = CURRENT) -> Pack:
    """The pack published under `name` (`<id>-<version>`), by default the one in force. Raises PackError."""
    return load_pack(published_file(name))


@cache
def published_text_files(name: str = CURRENT) -> dict[str, bytes]:
    """The files of the texts of the pack published under `name`, by their names without `.yaml`."""
    folder = files(__package__).joinpath(f"{name}.texts")
    found = sorted((each for each in folder.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name)
    return {each.name.removesuffix(".yaml"): each.read_bytes() for each in found}


@cache
def published_texts(name: str = CURRENT) -> StatementText:
    """The sentences of the pack published under `name`, in every language. Raises PackError."""
    return load_texts(published_text_files(name))
