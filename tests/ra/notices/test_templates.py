"""Every event is told in both languages, from the fields that it declares and nothing else."""

from __future__ import annotations

from importlib.resources import files

import pytest

from cps.packs import published
from pki.notice import FIELDS
from ra.notices.rules import rules
from ra.notices.templates import TemplateError, check, names_in, tell
from runtime.language import FSI, PDI, Language
from tests.support.persian import assert_reads_as_persian

SAMPLES = {
    "application": "5f" * 16,
    "member_class": "merchant",
    "state": "VETTING",
    "reason": "keyCompromise",
    "role": "vetting_officer",
    "check": "iban_owner",
    "clauses": "CPS 4.2.1, CPS 6.1.5",
    "serials": "0a1b2c",
    "due": "2027-03-01T21:30:00Z",
    "since": "2027-03-01T09:00:00Z",
    "not_after": "2028-03-01T09:00:00Z",
    "count": "12",
    "days": "3",
    "percent": "80",
    "statement": "1.0.0",
}
EVENTS = sorted(rules().events)


def document(language: str) -> str:
    return files("ra.notices").joinpath(f"templates.{language}.yaml").read_text("utf-8")


def test_there_is_a_sample_of_every_field() -> None:
    assert SAMPLES.keys() == FIELDS.keys()
    assert all(FIELDS[name].fullmatch(value) for name, value in SAMPLES.items())


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_both_languages_with_all_its_fields_and_with_the_least(event: str, language: Language) -> None:
    declared = rules().events[event]
    for names in (declared.fields, frozenset(declared.has)):
        told = tell(event, {name: SAMPLES[name] for name in names}, language)
        text = " ".join((told.subject, *told.paragraphs))
        assert "{" not in text
        assert SAMPLES["application"] not in text  # the whole number lets anybody act for an anonymous applicant
        assert (told.direction == "rtl") == (language is Language.FA)


def test_persian_is_written_as_persian() -> None:
    persian = check(document("fa").encode(), rules())
    for event in persian.events.values():
        for text in (event.subject, *event.lines):
            assert_reads_as_persian(text)


@pytest.mark.parametrize("event", EVENTS)
def test_both_languages_say_as_much(event: str) -> None:
    declared = rules().events[event].fields
    english, persian = (
        [names_in(line) for line in check(document(tag).encode(), rules()).events[event].lines] for tag in ("en", "fa")
    )
    assert english == persian
    assert frozenset[str]().union(*english) | {"application"} >= declared


def test_persian_texts_have_persian_digits_jalali_dates_and_isolated_codes() -> None:
    told = tell("returned", {name: SAMPLES[name] for name in ("application", "member_class", "due", "clauses")},
                Language.FA, attempt=2)  # fmt: skip
    text = "\n".join(told.paragraphs)
    assert "۱۴۰۵/۱۲/۱۱، ساعت ۰۱:۰۰ به وقت ایران" in text
    assert f"{FSI}CPS 4.2.1, CPS 6.1.5{PDI}" in text
    assert "پذیرنده" in text
    assert told.paragraphs[-1].startswith("این پیام تکراری است (تلاش ۲)")


def test_english_texts_say_that_they_are_repeated_and_leave_out_what_is_not_there() -> None:
    fields = {name: SAMPLES[name] for name in ("application", "member_class", "due")}
    told = tell("returned", fields, Language.EN, attempt=3)
    text = "\n".join(told.paragraphs)
    assert "2027-03-01 21:30 UTC" in text
    assert "rules" not in text
    assert "(attempt 3)" in told.paragraphs[-1]


def test_values_are_never_templates() -> None:
    fields = {name: SAMPLES[name] for name in ("application", "member_class")} | {"member_class": "{due}"}
    assert "{due}" in tell("approved", fields, Language.EN).paragraphs[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{member_class} certificate was approved", "{member_class.__class__} certificate was approved"),
        ("{member_class} certificate was approved", "{member_class!r} certificate was approved"),
        ("{member_class} certificate was approved", "{member_class:>9} certificate was approved"),
        ("{member_class} certificate was approved", "{member_class[0]} certificate was approved"),
        ("{member_class} certificate was approved", "{} certificate was approved"),
        ("{member_class} certificate was approved", "{due} certificate was approved"),
        ("{member_class} certificate was approved", "{member_class certificate was approved"),
        ("(attempt {attempt})", "(attempt)"),
        ("begins with {application}", "begins with {due}"),
        ("  approved:\n", "  improved:\n"),
        ("subject: Your application was approved", "subject: Your {application}"),
        ("The certificate with the serial number {serials} was revoked", "{reason}: {serials} was revoked"),
        ("direction: ltr", "direction: up"),
        ("language: en", "language: en\nmore: x"),
    ],
)
def test_templates_that_name_anything_else_are_refused(before: str, after: str) -> None:
    text = document("en")
    assert before in text
    with pytest.raises(TemplateError):
        check(text.replace(before, after, 1).encode(), rules())


@pytest.mark.parametrize("language", list(Language))
def test_whoever_is_rejected_reads_the_statements_own_reason(language: Language) -> None:
    for code, reason in published().rejections.items():
        told = tell("rejected", {"application": "0" * 32, "member_class": "merchant", "reason": code}, language)
        assert any(reason.told.text(language) in paragraph for paragraph in told.paragraphs), code
