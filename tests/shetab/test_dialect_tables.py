"""Dialect files: what a file with a base says, and that a wrong one is refused when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from shetab.dialect import Dialect
from shetab.dialect_tables import built_in, tables_from, text_of
from tests.support.bank_messages import DIALECTS


def test_only_one_file_says_what_a_field_of_the_tables_is() -> None:
    assert [len(text_of(name).splitlines()) < 12 for name in DIALECTS] == [False, True, False, True, True]
    assert set(built_in()) == set(DIALECTS)


def test_a_file_says_only_what_differs_from_its_base(tmp_path: Path) -> None:
    base, own = tmp_path / "base.yaml", tmp_path / "own.yaml"
    base.write_text("name: between\nbase: shetab87_ascii\npin_block_format: 0\n", "utf-8")
    own.write_text(f"name: own\nbase: {base}\nmac_algorithm: x9.19\nfields:\n  44: {{format: 'ans ..30'}}\n", "utf-8")
    dialect = Dialect.load(str(own))
    assert (dialect.name, dialect.pin_block_format, dialect.mac_algorithm) == ("own", 0, "x9.19")
    assert dialect.fields[44].notation == "ans ..30"
    assert dialect.fields[44].name == Dialect.load("shetab87_ascii").fields[44].name
    assert Dialect.load("shetab87_ascii").fields[44].notation == "ans ..25"


@pytest.mark.parametrize(
    ("name", "block_format", "size"),
    [("shetab87_ascii", 3, 16), ("shetab93_binary", 3, 16), ("shetab93_binary_pin4", 4, 32)],
)
def test_the_pin_block_has_the_size_of_its_format(name: str, block_format: int, size: int) -> None:
    dialect = Dialect.load(name)
    assert (dialect.pin_block_format, dialect.fields[52].format.size) == (block_format, size)
    assert dialect.wire_fields[52].format.size == size


WRONG = {
    "a PIN block that does not fit": "pin_block_format: 4",
    "a PIN block format that is not on a line": "pin_block_format: 1",
    "a MAC that nobody knows": "mac_algorithm: md5",
    "an encoding that nobody knows": "encoding: {numbers: ebcdic}",
    "a text of a fixed length": "fields: {41: {text: persian}}",
    "a character set that nobody knows": "texts: {persian: {charset: klingon}}",
    "a letter that does not come back": "texts: {persian: {sent_as: {ی: x}}}",
    "a message of the wire for none of ours": "wire: {messages: {'1900': {of: '0900', mandatory: [11]}}}",
    "two messages of the wire for one of ours": "wire: {messages: {'1900': {of: '0800', mandatory: [11]}}}",
    "a message of ours without one of the wire": "wire: {messages: {'1804': ~}}",
    "a field of the wire without a format": "wire: {messages: {'1804': {mandatory: [7, 8, 11, 12, 24, 93, 94]}}}",
    "a bitmap among the fields": "wire: {messages: {'1804': {mandatory: [1, 7, 11, 12, 24, 93, 94]}}}",
    "a rule of a kind that there is not": "wire: {rules: {x: {kind: magic}}}",
    "a rule about a field that there is not": "wire: {rules: {x: {kind: move, inside: 8, outside: 93}}}",
    "a rule about a field that the wire has not": "wire: {rules: {x: {kind: move, inside: 7, outside: 8}}}",
    "a rule about a message that there is not":
        "wire: {rules: {x: {kind: move, messages: ['0900'], inside: 7, outside: 93}}}",
    "two codes that are one on the wire": "wire: {rules: {action code: {to: {'77': '000'}}}}",
    "a code of the wire that means two": "wire: {rules: {action code: {also: {'000': '05'}}}}",
    "a code of the wire that means none of ours": "wire: {rules: {action code: {also: {'777': '77'}}}}",
    "an unlisted code that is listed": "wire: {rules: {action code: {unlisted: '05'}}}",
    "two parts that are one on the wire": "wire: {rules: {point of service: {slots: {c: {table: {'3': '6'}}}}}}",
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused(case: str) -> None:
    honest = "name: test\nbase: shetab93_ascii\n"
    tables_from(honest)
    with pytest.raises(ValueError, match=r"."):
        tables_from(honest + WRONG[case] + "\n")


def test_bases_in_a_circle(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"name: one\nbase: {two}\n", "utf-8")
    two.write_text(f"name: two\nbase: {one}\n", "utf-8")
    with pytest.raises(ValueError, match="based on itself"):
        Dialect.load(str(one))


def test_a_dialect_that_there_is_not() -> None:
    for name in ("nowhere", "/nowhere.yaml"):
        with pytest.raises(FileNotFoundError):
            Dialect.load(name)
