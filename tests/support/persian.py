"""Judges of catalogues: complete, and Persian as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime.language_catalogue import Catalogue, persian, placeholders
from tests.support.templates import Said

_APART = re.compile(r"\b(?:ن?می) [آ-ی]|[آ-ی] (?:ها|های|هایی|ترین)\b")
"""Prefixes and endings that take a half-space, written with a whole one."""


def assert_catalogue_fits(catalogue: Catalogue, said: Iterable[Said]) -> None:
    """Every template that is said has its values and is translated, here or below; the catalogue has no others."""
    said = list(said)
    wrong = [
        f"{each.place}: {each.template}"
        for each in said
        if each.values is not None and placeholders(each.template) != each.values
    ]
    assert not wrong, "values and template differ:\n" + "\n".join(wrong)
    missing = {each.template: each.place for each in said if each.template not in persian().messages}
    assert not missing, "no Persian in messages.fa.yaml for:\n" + "\n".join(
        f'  "{template}":  # {place}' for template, place in missing.items()
    )
    idle = catalogue.messages.keys() - {each.template for each in said}
    assert not idle, f"nobody says: {sorted(idle)}"


def assert_reads_as_persian(text: str) -> None:
    """Persian letters and not their Arabic forms, half-spaces where they are due, no Latin sentence left."""
    bare = re.sub(r"\{[a-z_]+\}|'kwbp [^']+'", "", text)
    assert not re.search("[يكةۀ\u0649٠-٩]", bare), text
    assert not _APART.search(bare), text
    assert bare == bare.strip() or "{" in text, text
    assert "\u200c\u200c" not in bare, text
    assert " \u200c" not in bare, text
    assert "\u200c " not in bare, text
    latin = len(re.findall("[A-Za-z]{4,}", bare))
    assert latin <= len(re.findall(r"[آ-ی]{2,}", bare)) or bare == "TLS", text
