"""A message explained to people: every byte has its meaning, and no secret is in any of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shetab.explain import Explanation, explain, guess
from tests.support.bank_messages import DIALECTS, NOW, catalogue, loaded, sealed
from tests.support.iso8583_messages import PAN

SECRETS = (PAN, "F92D1CFCC2103E10", "012300", "0712")


def everything(found: Explanation) -> str:
    return repr(found)


@pytest.mark.parametrize("name", DIALECTS)
class TestEachDialect:
    def test_the_parts_are_the_whole_message(self, name: str) -> None:
        dialect = loaded(name)
        for message in catalogue(dialect).values():
            raw = sealed(dialect, message)
            found = explain(raw, name, now=NOW)
            assert found.problem is None
            assert found.purpose == dialect.messages[message.mti].purpose
            assert [part.start for part in found.parts[1:]] == [part.end for part in found.parts[:-1]]
            assert (found.parts[0].start, found.parts[-1].end) == (0, len(raw))
            assert found.mac == (len(dialect.mac_input(raw)), len(raw))
            assert all(part.name and part.fa for part in (*found.parts, *found.inside))

    def test_secrets_are_a_class_and_a_length(self, name: str) -> None:
        dialect = loaded(name)
        found = explain(sealed(dialect, catalogue(dialect)["purchase"]), name, now=NOW)
        assert not [secret for secret in SECRETS if f"'{secret}'" in everything(found) or PAN in everything(found)]
        shown = {part.field: (part.shown, part.value_class) for part in found.parts}
        assert shown["2"] == ("603799******7893", "16 characters: digits")
        assert shown["14"] == (None, "4 characters: digits")
        assert shown["48"] == (None, "8 characters: digits, other ASCII")
        assert shown["52"][0] is None
        assert shown["128"][0] is None

    def test_sub_fields_are_opened(self, name: str) -> None:
        dialect = loaded(name)
        told = {
            part.field: dict(part.inner)
            for message in ("purchase", "reversal of a part")
            for found in [explain(sealed(dialect, catalogue(dialect)[message]), name, now=NOW)]
            for part in found.inside or found.parts
        }
        assert told["53"]["PIN block format"] == str(dialect.pin_block_format)
        assert told["62"] == {"purchase": "a1" * 20, "action": "AUTHREV"}
        assert told["90"]["trace number"] == "000042"
        assert told["95"] == {"amount that is left": "100000"}

    def test_it_is_found_without_being_named(self, name: str) -> None:
        dialect = loaded(name)
        found = guess(sealed(dialect, catalogue(dialect)["purchase"]), now=NOW)
        assert (found.dialect, found.problem) == (name, None)

    def test_a_truncated_one_says_where_it_ends(self, name: str) -> None:
        dialect = loaded(name)
        raw = sealed(dialect, catalogue(dialect)["purchase"])
        whole = explain(raw, name, now=NOW)
        broken = next(part for part in whole.parts if part.field == "37")
        assert broken.start is not None
        found = explain(raw[: broken.start + 3], name, now=NOW)
        assert found.problem is not None
        assert (found.problem.field, found.problem.rule, found.position) == ("37", "cannot_be_decoded", broken.start)
        assert [part.field for part in found.parts][-1] == "32"
        assert PAN not in everything(found)

    def test_what_moved_out_of_its_field_is_not_shown(self, name: str) -> None:
        """A length that is wrong puts digits of the card where an amount should be."""
        dialect = loaded(name)
        raw = sealed(dialect, catalogue(dialect)["purchase"])
        card = next(part for part in explain(raw, name, now=NOW).parts if part.field == "2")
        assert card.start is not None
        short = b"\x06" if "binary" in name else b"06"
        found = explain(raw[: card.start] + short + raw[card.start + len(short) :], name, now=NOW)
        assert found.problem is not None
        assert all(part.shown is None for part in found.parts if part.field not in ("t", "p", "1"))

    def test_a_card_number_where_a_bitmap_should_be_is_not_shown(self, name: str) -> None:
        """Bytes of another system, which has no bitmaps."""
        raw = bytes.fromhex(f"0200{PAN}") if "binary" in name else f"0200{PAN}".encode()
        for rest in (b"", b"0" * 40, b"0" * 400):
            found = explain(raw + rest, name, now=NOW)
            assert found.problem is not None
            assert PAN not in everything(found)

    def test_bytes_that_are_no_message(self, name: str) -> None:
        for noise in (b"", b"\xff" * 5, b"99ZZ" + b"0" * 40):
            found = explain(noise, name, now=NOW)
            assert found.problem is not None
            assert not found.purpose


def test_an_old_message_is_not_a_wrong_one() -> None:
    dialect = loaded("shetab93_ascii")
    raw = sealed(dialect, catalogue(dialect)["reversal"])
    assert explain(raw, "shetab93_ascii", now=NOW + timedelta(days=3000)).problem is None
    assert explain(raw, "shetab93_ascii", now=datetime(2020, 1, 1, tzinfo=UTC)).problem is None


def test_a_field_too_many_is_named_where_it_stands() -> None:
    dialect = loaded("shetab87_ascii")
    request, answer = catalogue(dialect)["purchase"], catalogue(dialect)["purchase approved"]
    raw = b"0210" + sealed(dialect, request)[4:]
    found = explain(raw, "shetab87_ascii", now=NOW)
    assert found.problem is not None
    assert (found.problem.field, found.problem.rule) == ("6", "mandatory_field_is_missing")
    assert answer.mti == found.mti
