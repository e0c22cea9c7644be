"""Values that a document quotes: found by their path, and said in each language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cps.condition import Condition
from cps.document_blocks import Code, Text
from cps.document_values import Value, digest_of, duration, moment, spoken, values, written
from cps.errors import PackError
from cps.packs import published
from tests.support.statements import published_edition

HOUR = timedelta(hours=1)


def test_every_value_of_the_pack_has_a_path() -> None:
    found = values(published())
    assert found["classes.merchant.validity.max"] == timedelta(days=398)
    assert found["classes.gateway.steps.approve.count"] == 2
    assert found["classes.gateway.steps.approve.not"] == ("author", "vet", "same_org")
    assert found["classes.merchant.evidence.iban_owner.max_age"] == timedelta(days=30)
    assert found["classes.cardholder.steps.auto.when"] == Condition("<", 40)
    assert found["key_rules.strong.any_of.0.rsa.min"] == 3072
    assert found["exclusive.0"] == ("approving_officer", "auditor", "vetting_officer")
    assert found["clocks.warn_at"] == (0.5, 0.8)
    assert found["rules.SOD-AUTHOR.section"] == "5.2.4"
    assert found["digest"] == published().digest


def test_the_annex_is_quoted_the_same_way() -> None:
    found = published_edition().quotable
    assert found["profiles.root.validity"] == timedelta(days=7300)
    assert found["profiles.cardholder.lists"] is None
    assert found["operations.destroy.approvals"] == 2
    assert found["status.live"] == HOUR
    assert found["figures.audit_share"] == 0.03


def test_no_name_of_the_annex_hides_one_of_the_pack() -> None:
    edition = published_edition()
    assert len(edition.quotable) == len(values(edition.pack)) + len(values(edition.annex))


def test_what_nobody_said_how_to_quote_is_an_error() -> None:
    with pytest.raises(TypeError, match="complex"):
        values({"a": 1j})


def test_the_digest_is_over_paths_and_values() -> None:
    assert digest_of({"a": HOUR}) == digest_of({"a": timedelta(minutes=60)}) != digest_of({"b": HOUR})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (timedelta(days=90), "P90D"),
        (timedelta(days=1), "P1D"),
        (4 * HOUR, "PT4H"),
        (timedelta(minutes=2), "PT2M"),
        (timedelta(milliseconds=250), "PT0.25S"),
        (datetime(2026, 1, 1, 3, 30, tzinfo=timezone(timedelta(hours=3, minutes=30))), "2026-01-01T00:00:00Z"),
        (b"\x0a\xff", "0aff"),
        (True, "true"),
        (False, "false"),
        (None, ""),
        (Condition("<", 40), "risk < 40"),
        (("a", 2), "[a, 2]"),
        ((), "[]"),
    ],
)
def test_a_value_is_written_as_in_the_pack(value: Value, expected: str) -> None:
    assert written(value) == expected


@pytest.mark.parametrize(
    ("value", "english", "persian"),
    [
        (timedelta(days=398), "398 days", "۳۹۸ روز"),
        (timedelta(days=2), "2 days", "۲ روز"),
        (timedelta(days=1), "24 hours", "۲۴ ساعت"),
        (HOUR, "1 hour", "۱ ساعت"),
        (timedelta(minutes=90), "90 minutes", "۹۰ دقیقه"),
        (timedelta(seconds=1), "1 second", "۱ ثانیه"),
        (timedelta(milliseconds=250), "250 milliseconds", "۲۵۰ هزارم ثانیه"),
        (timedelta(0), "0 hours", "۰ ساعت"),
    ],
)
def test_a_duration_is_said_in_the_largest_unit_that_fits(value: timedelta, english: str, persian: str) -> None:
    assert (duration(value, "en"), duration(value, "fa")) == (english, persian)
    assert spoken(value, "fa") == (Text(persian),)


def test_a_duration_below_a_millisecond_is_not_said() -> None:
    with pytest.raises(PackError, match="not said in words"):
        duration(timedelta(microseconds=1), "en")


def test_a_moment_is_said_in_utc_and_by_the_calendar_of_the_language() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert moment(at, "en") == "2026-01-01 00:00 UTC"
    assert moment(at, "fa") == "۱۱ دی ۱۴۰۴، ساعت ۰۰:۰۰ UTC (2026-01-01)"
    assert spoken(at, "en") == (Text("2026-01-01 00:00 UTC"),)


def test_names_and_digests_are_code_and_numbers_are_words() -> None:
    assert spoken("auditor", "fa") == (Code("auditor"),)
    assert spoken(b"\x01", "en") == (Code("01"),)
    assert spoken(Condition(">=", 40), "en") == (Code("risk >= 40"),)
    assert spoken(3072, "fa") == (Text("۳۰۷۲"),)
    assert spoken((0.5, 0.8), "en") == (Text("50 %"), Text(", "), Text("80 %"))
    assert spoken((0.5,), "fa") == (Text("۵۰٪"),)
    assert spoken(("a", "b"), "fa") == (Code("a"), Text("، "), Code("b"))


@pytest.mark.parametrize("value", [None, True, False])
def test_nothing_and_yes_are_not_quoted_in_a_sentence(value: Value) -> None:
    with pytest.raises(PackError, match="cannot be quoted"):
        spoken(value, "en")
