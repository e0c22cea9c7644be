"""`kwbp iso8583 show`: a message from a file, from standard input or from the command line, in two languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import build
from tests.support.bank_messages import DIALECTS, catalogue, loaded, sealed
from tests.support.iso8583_messages import PAN


def show(*arguments: str, data: bytes | None = None) -> Result:
    return CliRunner().invoke(build(["iso8583"]), ["iso8583", "show", *arguments], input=data)


def message(dialect: str = "shetab87_ascii", name: str = "purchase") -> bytes:
    return sealed(loaded(dialect), catalogue(loaded(dialect))[name])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_message_in_a_file_is_explained_in_the_dialect_that_it_is_in(tmp_path: Path, dialect: str) -> None:
    raw, digits = tmp_path / "raw", tmp_path / "digits"
    raw.write_bytes(message(dialect))
    digits.write_text("\n".join(message(dialect).hex(" ").split()), "ascii")
    told = show(str(raw))
    assert told.exit_code == 0
    assert f"in the dialect {dialect}" in told.output.replace("\u2068", "").replace("\u2069", "")
    assert "financial request" in told.output
    assert "603799******7893" in told.output
    assert "not shown: 4 characters: digits" in told.output
    assert PAN not in told.output
    assert show(str(digits)).output == told.output
    assert show("-", data=message(dialect)).output == told.output
    assert show(message(dialect).hex()).output == told.output


def test_in_persian() -> None:
    told = show("-", "--lang", "fa", data=message())
    assert "شمارهٔ کارت" in told.output
    assert "درخواست مالی" in told.output
    assert "primary account number" not in told.output


def test_for_programs() -> None:
    app = build(["iso8583"])
    told = CliRunner().invoke(app, ["--json", "iso8583", "show", "-"], input=message("shetab93_binary", "reversal"))
    document = json.loads(told.output)
    assert (document["dialect"], document["mti"], document["problem"]) == ("shetab93_binary", "1420", None)
    fields = {each["field"]: each for each in document["fields"]}
    assert (fields["24"]["shown"], fields["2"]["shown"]) == ("400", "603799******7893")
    assert {each["field"] for each in document["inside"]} >= {"13", "90"}
    assert document["mac"]["end"] == fields["128"]["end"]


def test_a_broken_one_says_which_field_and_where() -> None:
    told = show("-", "--dialect", "shetab87_ascii", data=message().replace(b"000000150000", b"00000015000x"))
    assert told.exit_code == 1
    assert "field" in told.output
    assert "characters_must_be_n" in told.output
    assert "at byte" in told.output
    assert PAN[6:12] not in told.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("30", "--dialect", "nowhere"), "no dialect"),
        (("30", "--dialect", "/nowhere.yaml"), "no dialect"),
        (("30", "--lang", "de"), "en or fa"),
    ],
)
def test_what_is_asked_wrongly_is_told(arguments: tuple[str, ...], told: str) -> None:
    result = show(*arguments)
    assert result.exit_code == 1
    assert told in result.output + result.stderr


def test_a_dialect_file_that_is_wrong_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\nbase: shetab87_ascii\nencoding: {numbers: ebcdic}\n", "utf-8")
    result = show("30", "--dialect", str(wrong))
    assert result.exit_code == 1
    assert "is wrong" in result.output + result.stderr
