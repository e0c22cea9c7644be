"""The words of a document: titles and columns (`document_words.yaml`), and what a pack's own names mean (its terms)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pydantic import TypeAdapter

from cps import strict_yaml
from cps.errors import PackError
from cps.rfc3647 import Language
from cps.statement_text import StatementText, Words


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words of one language; whoever asks for one that is not there gets a PackError that names it."""

    groups: Mapping[str, Mapping[str, Words]]
    language: Language

    def say(self, group: str, name: str) -> str:
        try:
            return self.groups[group][name].said(self.language)
        except KeyError:
            raise PackError(f"there are no words for {group}.{name}") from None


def vocabulary(texts: StatementText, language: Language) -> Vocabulary:
    """The words for documents of this statement."""
    return Vocabulary({**texts.terms, **_common()}, language)


@cache
def _common() -> Mapping[str, Mapping[str, Words]]:
    found = strict_yaml.load(files("cps").joinpath("document_words.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, dict[str, Words]]).validate_python(found)
