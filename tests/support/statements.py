"""Editions of the statement for tests: the published one, and ones with one thing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from cli.statement import edition
from cps.document import Edition
from cps.model import load_pack
from cps.packs import CURRENT
from cps.statement_text import Passage

PACK_TEXT = files("cps.packs").joinpath("kwbp-cps-1.0.0.yaml").read_text(encoding="utf-8")


@cache
def published_edition() -> Edition:
    """The edition that this release renders."""
    return edition(CURRENT)


def with_pack(*changes: tuple[str, str]) -> Edition:
    """The published edition with passages of its pack's YAML replaced; each must be there."""
    text = PACK_TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return replace(published_edition(), pack=load_pack(text))


def with_passage(number: str, **fields: Any) -> Edition:
    """The published edition with something else under one heading."""
    found = published_edition()
    passages = {**found.texts.passages, number: Passage.model_validate(fields)}
    return replace(found, texts=replace(found.texts, passages=passages))


def with_rules(rules: Mapping[str, str]) -> Edition:
    """The published edition with other Persian sentences."""
    found = published_edition()
    return replace(found, texts=replace(found.texts, rules=rules))
