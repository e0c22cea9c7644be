"""The document: every heading in its place, every value from the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cps.document import compose, section
from cps.document_blocks import Block, Code, Link, Paragraph, Table, Text
from cps.errors import PackError
from cps.model import Pack
from cps.rfc3647 import LANGUAGES, Language, outline
from cps.rules import Rule
from tests.support.statements import published_edition, with_pack, with_passage


def text_of(block: Block) -> str:
    spans = (
        block.spans if isinstance(block, Paragraph) else [span for row in block.rows for c in row.cells for span in c]
    )
    return "".join(span.text for span in spans)


def test_all_headings_stand_in_the_order_of_the_rfc_in_both_languages() -> None:
    for language in LANGUAGES:
        document = compose(published_edition(), language)
        assert [each.number for each in document.sections] == list(outline())
        assert [each.title for each in document.sections] == [each.titles[language] for each in outline().values()]


def test_both_languages_have_the_same_structure() -> None:
    english, persian = (compose(published_edition(), language) for language in LANGUAGES)
    for one, other in zip(english.sections, persian.sections, strict=True):
        assert [type(block) for block in one.blocks] == [type(block) for block in other.blocks], one.number
        shapes = [
            [(len(row.cells), row.anchor) for block in each.blocks if isinstance(block, Table) for row in block.rows]
            for each in (one, other)
        ]
        assert shapes[0] == shapes[1], one.number


def test_every_heading_without_others_below_says_something() -> None:
    for each in compose(published_edition(), "fa").sections:
        assert each.blocks or outline()[each.number].has_parts, each.number


def test_the_document_names_the_very_rules_and_texts_it_was_made_of() -> None:
    edition = published_edition()
    identity = text_of(compose(edition, "en").identity)
    assert edition.name == "kwbp-cps-1.0.0"
    for expected in ("kwbp-cps", "1.0.0", "2026-01-01 00:00 UTC", "urn:kwbp:cps:1.0.0"):
        assert expected in identity
    for digest in (edition.pack.digest, edition.texts.digest, edition.annex_digest):
        assert digest.hex() in identity


def test_every_rule_stands_under_its_heading_with_its_anchor() -> None:
    edition = published_edition()
    assert set(Rule) < set(edition.rules)
    assert edition.rules["APR-REQUESTER"].section == "5.2.4"
    for rule, said in edition.rules.items():
        blocks = section(edition, said.section, "fa").blocks
        anchors = [row.anchor for block in blocks if isinstance(block, Table) for row in block.rows]
        assert rule in anchors


@pytest.mark.parametrize(
    ("change", "number", "language", "expected"),
    [
        (("longest: P30D", "longest: P31D"), "4.9.16", "en", "At most 31 days."),
        (("longest: P30D", "longest: P31D"), "4.9.16", "fa", "دست بالا ۳۱ روز."),
        (("deadline: PT24H\n    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 1}]\n"
          "    by_holder: true\n    by_issuer_bank: true\n    denylist_key: true",
          "deadline: PT12H\n    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 1}]\n"
          "    by_holder: true\n    by_issuer_bank: true\n    denylist_key: true"),
         "4.9.5", "en", "it is 12 hours"),
        (("approving_officer, count: 2", "approving_officer, count: 3"), "4.2.2", "en", "approving_officer3author"),
        (("rsa: {min: 3072", "rsa: {min: 4096"), "6.1.5", "fa", "RSA دست‌کم ۴۰۹۶ بیت"),
        (("skew: PT2M", "skew: PT3M"), "4.9.5", "en", "3 minutes"),
        (("validity: {max: P90D", "validity: {max: P60D"), "6.3.2", "fa", "۶۰ روز"),
        (("bin_unknown: 100", "bin_unknown: 101"), "4.2.1", "en", "101"),
    ],
)  # fmt: skip
def test_what_the_rules_say_is_what_the_document_says(
    change: tuple[str, str], number: str, language: Language, expected: str
) -> None:
    assert expected in " ".join(map(text_of, section(with_pack(change), number, language).blocks))
    assert expected not in " ".join(map(text_of, section(published_edition(), number, language).blocks))


def test_procedural_headings_say_that_software_does_not_do_it() -> None:
    for number in ("5.1.1", "5.3.1", "9.1.1"):
        (note,) = section(published_edition(), number, "en").blocks
        assert isinstance(note, Paragraph)
        assert note.is_note
        assert "The software neither does nor checks it" in text_of(note)
    assert section(published_edition(), "5.1", "en").blocks == ()
    said = section(published_edition(), "5.3.8", "en").blocks
    assert [isinstance(block, Paragraph) and block.is_note for block in said] == [True, False]


def test_no_stipulation_is_said() -> None:
    assert [text_of(block) for block in section(published_edition(), "3.1.6", "en").blocks] == ["No stipulation."]


def test_prose_links_to_headings_and_rules() -> None:
    edition = with_passage("4.9.4", en="See {#4.9.5}, {#SOD-OWN}: `kwbp`.", fa="{#4.9.5} {#SOD-OWN}")
    (paragraph,) = section(edition, "4.9.4", "en").blocks
    assert isinstance(paragraph, Paragraph)
    assert paragraph.spans == (
        Text("See "),
        Link("s4.9.5", "4.9.5"),
        Text(", "),
        Link("SOD-OWN", "SOD-OWN"),
        Text(": "),
        Code("kwbp"),
        Text("."),
    )


def test_a_value_that_is_not_there_is_an_error_not_a_blank() -> None:
    with pytest.raises(PackError, match=r"there is no value cps\.colour"):
        section(with_passage("4.9.4", en="{cps.colour}", fa="{cps.colour}"), "4.9.4", "en")


def test_a_curve_alone_is_a_kind_of_key() -> None:
    edition = with_pack(("      - rsa: {min: 3072, e: [65537]}\n", ""))
    assert "P-256 or P-384ROCA" in "".join(map(text_of, section(edition, "6.1.5", "en").blocks))


def test_the_digest_of_the_annex_moves_with_it() -> None:
    edition = published_edition()
    moved = replace(edition, annex=replace(edition.annex, policies={}))
    assert moved.annex_digest != edition.annex_digest
    assert isinstance(edition.pack, Pack)
