"""What changes between two editions of the statement: values of the rules one by one, and the headings that read anew.

Values are compared where the document quotes them from (`document_values`), so a step that is moved under its name is
no change of all the others. Each has the heading that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from cps.document import Edition, section
from cps.document_blocks import Block, Section, Table
from cps.document_values import values, written
from cps.model import Pack
from cps.rfc3647 import LANGUAGES, Language, outline

_SECTIONS: Final = {
    "cps.on_supersede": "9.12.1",
    "cps.effective": "9.10.1",
    "cps": "1.2",
    "roles": "5.2.1",
    "exclusive": "5.2.4",
    "grants": "5.2.1",
    "signers": "5.2.3",
    "key_rules": "6.1.5",
    "risk": "4.2.1",
    "clocks.retention_years": "5.5.2",
    "clocks.revoke_publish": "4.9.8",
    "clocks.warn_at": "4.9.5",
    "clocks.skew": "4.2.2",
}
"""Where values belong that name no section themselves: by the longest beginning of their path."""
_OWN: Final = ("classes", "checks", "revocation", "rejections", "rules")
"""Parts of the pack whose entries each name their section."""


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs; `old` None: it is new, `new` None: it is gone. Values as the pack writes them."""

    section: str
    path: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A heading under which something else is read; `what` changed: the prose, or the tables."""

    section: str
    language: Language
    what: Literal["prose", "tables"]


@dataclass(frozen=True, slots=True)
class Difference:
    """All that changes from one edition to another."""

    changes: tuple[Change, ...]
    readings: tuple[Reading, ...]


def difference(old: Edition, new: Edition) -> Difference:
    """What changes from `old` to `new`. Raises PackError if one of them cannot be read."""
    return Difference(tuple(_changes(old.pack, new.pack)), tuple(_readings(old, new)))


def _changes(old: Pack, new: Pack) -> Iterator[Change]:
    before, after = values(old), values(new)
    for path in [*before, *(path for path in after if path not in before)]:
        said = written(before[path]) if path in before else None
        says = written(after[path]) if path in after else None
        if said != says and path != "digest":
            yield Change(section_of(path, new if path in after else old), path, said, says)


def section_of(path: str, pack: Pack) -> str:
    """The section that a value of the pack belongs to, by its path."""
    first, *others = path.split(".")
    if first in _OWN:
        entries = getattr(pack, first)
        return str(entries[others[0]].section)
    if first == "procedural":
        return ".".join(others)
    if first in {"suspension", "denylist", "acceptance", "one_time_code", "review", "publication", "evidence_files"}:
        return str(getattr(pack, first).section)
    return next(section for start, section in _SECTIONS.items() if f"{path}.".startswith(f"{start}."))


def _readings(old: Edition, new: Edition) -> Iterator[Reading]:
    for number in outline():
        for language in LANGUAGES:
            was, becomes = (section(each, number, language) for each in (old, new))
            if _prose(was) != _prose(becomes):
                yield Reading(number, language, "prose")
            if _tables(was) != _tables(becomes):
                yield Reading(number, language, "tables")


def _prose(found: Section) -> tuple[Block, ...]:
    return tuple(block for block in found.blocks if not isinstance(block, Table))


def _tables(found: Section) -> tuple[Block, ...]:
    return tuple(block for block in found.blocks if isinstance(block, Table))
