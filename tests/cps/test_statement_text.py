"""Loading the sentences of a statement, and the small language of their placeholders."""

from __future__ import annotations

import pytest

from cps.errors import PackError
from cps.packs import published_texts
from cps.statement_text import Token, load_texts, tokens


def test_a_heading_is_said_in_prose_in_tables_or_in_one_word() -> None:
    texts = load_texts(
        {
            "4": '"4.1.1": {en: One., fa: یک.}\n"4.1.2": {en: [One., Two.], fa: [یک., دو.], tables: [steps]}',
            "5": '"5.3.1": procedural\n"9.1.1": no stipulation',
            "rules": "PACK-PIN: متن",
            "terms": "roles: {auditor: {en: reads, fa: می‌خواند}}",
        }
    )
    assert texts.passages["4.1.1"].prose("en") == ("One.",)
    assert texts.passages["4.1.2"].prose("fa") == ("یک.", "دو.")
    assert texts.passages["4.1.2"].tables == ("steps",)
    assert [texts.passages[number].kind for number in ("4.1.1", "5.3.1", "9.1.1")] == [
        "provision",
        "procedural",
        "no stipulation",
    ]
    assert texts.rules == {"PACK-PIN": "متن"}
    assert texts.terms["roles"]["auditor"].said("fa") == "می‌خواند"


def test_the_digest_is_over_what_is_said_not_over_its_layout() -> None:
    first = load_texts({"4": '"4.1.1": {en: One., fa: یک.}'})
    again = load_texts({"4": '# a comment\n"4.1.1":\n  fa: یک.\n  en: One.'})
    other = load_texts({"4": '"4.1.1": {en: Two., fa: یک.}'})
    assert first.digest == again.digest != other.digest
    assert len(published_texts().digest) == 32


@pytest.mark.parametrize(
    ("chapters", "fault"),
    [
        pytest.param({"4": "a: ["}, "the text 4 is not YAML", id="broken-yaml"),
        pytest.param({"4": "- a list"}, "the text 4 is a mapping", id="list"),
        pytest.param({"4": '"4.1": procedural', "5": '"4.1": procedural'}, "speaks of 4.1, as another", id="twice"),
        pytest.param({"4": '"4.1": maybe'}, "passages.4.1.kind", id="unknown-word"),
        pytest.param({"4": '"4.1": {en: a, fr: b}'}, "passages.4.1.fr", id="unknown-language"),
        pytest.param({"4": '"4.1": {tables: [wages]}'}, "passages.4.1.tables.0", id="unknown-table"),
        pytest.param({"4": '"4.1": 7'}, "passages.4.1", id="number"),
        pytest.param({"rules": "PACK-PIN: {en: a}"}, "rules.PACK-PIN", id="rule-that-is-no-text"),
        pytest.param({"terms": "roles: {auditor: {en: a}}"}, "terms.roles.auditor.fa", id="term-in-one-language"),
    ],
)
def test_texts_with_one_thing_wrong_are_refused_by_name(chapters: dict[str, str], fault: str) -> None:
    with pytest.raises(PackError, match=fault):
        load_texts(chapters)


def test_prose_quotes_values_links_and_code() -> None:
    assert tokens("At most {suspension.longest}, see {#4.9.5} and {#SOD-AUTHOR}: `kwbp ca {x}`.") == (
        Token("text", "At most "),
        Token("path", "suspension.longest"),
        Token("text", ", see "),
        Token("link", "4.9.5"),
        Token("text", " and "),
        Token("link", "SOD-AUTHOR"),
        Token("text", ": "),
        Token("code", "kwbp ca {x}"),
        Token("text", "."),
    )
    assert tokens("") == ()


@pytest.mark.parametrize("prose", ["a { b", "a } b", "a ` b", "{a b}", "{#sod}", "{}", "``", "{__class__!r}", "{{a}}"])
def test_nothing_else_is_in_the_grammar(prose: str) -> None:
    with pytest.raises(PackError, match="a stray"):
        tokens(prose)
