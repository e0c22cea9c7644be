"""`kwbp cps`: the statement is checked, shown, rendered and compared from the command line, with no installation."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from cli.main import build
from cps.errors import PackError
from cps.packs import CURRENT, published
from tests.support.statements import PACK_TEXT


def cps(*arguments: str, json_wanted: bool = False) -> Result:
    first = ["--json"] if json_wanted else []
    return CliRunner().invoke(build(["cps"]), [*first, "cps", *arguments])


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """A draft of the next version, with a change that only tables show, and one that prose quotes."""
    path = tmp_path / "draft.yaml"
    text = PACK_TEXT.replace("version: 1.0.0", "version: 1.1.0")
    path.write_text(text.replace("approving_officer, count: 2", "approving_officer, count: 3"), encoding="utf-8")
    return path


def test_check_finds_the_published_statement_whole() -> None:
    result = cps("check", json_wanted=True)
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (found["pack"], found["problems"], found["headings"]) == (CURRENT, [], 270)
    assert found["pack_sha256"] == published().digest.hex()
    assert "270 headings of RFC 3647 in two languages" in cps("check").output


def test_check_of_a_statement_with_a_heading_unanswered_fails_and_names_it(draft: Path) -> None:
    texts = draft.with_suffix(".texts")
    texts.mkdir()
    (texts / "4.yaml").write_text('"4.9.5": {en: One., fa: يک.}\n', encoding="utf-8")
    result = cps("check", str(draft), json_wanted=True)
    assert result.exit_code == 1
    at = {each["at"]: each["text"] for each in json.loads(result.stdout)["problems"]}
    assert at["4.9.4"] == "neither a provision, nor procedural, nor no stipulation"
    assert at["4.9.5"].startswith("the Arabic letter")
    assert "4.9.4: neither" in cps("check", str(draft)).output
    assert cps("render", "--pack", str(draft)).exit_code == 1


def test_show_lists_every_heading_and_how_it_is_answered() -> None:
    rows = {row["section"]: row for row in json.loads(cps("show", "--language", "fa", json_wanted=True).stdout)}
    assert rows["5.2.2"]["answer"] == "provision"
    assert "SOD-PERSON" in rows["5.2.2"]["rules"]
    assert (rows["5.1.1"]["answer"], rows["3.1.6"]["answer"]) == ("procedural", "no stipulation")
    assert rows["4.9"]["answer"] is None
    assert rows["1"]["title"] == "مقدمه"


def test_show_of_a_heading_shows_it_with_those_below() -> None:
    shown = json.loads(cps("show", "4.9", json_wanted=True).stdout)
    assert [each["section"] for each in shown] == ["4.9", *(f"4.9.{number}" for number in range(1, 17))]
    assert "| `keyCompromise` |" in cps("show", "4.9.1").output
    assert cps("show", "4.99").exit_code == 1


@pytest.mark.parametrize(
    ("language", "form", "beginning"),
    [
        ("en", "html", '<!DOCTYPE html>\n<html lang="en" dir="ltr">'),
        ("fa", "html", '<!DOCTYPE html>\n<html lang="fa" dir="rtl">'),
        ("en", "markdown", "# Certification Practice Statement\n"),
        ("fa", "markdown", '<div dir="rtl" lang="fa">\n'),
    ],
)
def test_render_writes_the_document(language: str, form: str, beginning: str, tmp_path: Path) -> None:
    out = tmp_path / "cps"
    result = cps("render", "--language", language, "--format", form, "--out", str(out), json_wanted=True)
    said = json.loads(result.stdout)
    assert out.read_text(encoding="utf-8").startswith(beginning)
    assert said["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert published().digest.hex() in out.read_text(encoding="utf-8")


def test_render_gives_the_same_bytes_in_every_process() -> None:
    command = [sys.executable, "-m", "cli", "cps", "render", "--language", "fa"]
    here = cps("render", "--language", "fa").output.encode()
    other = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "4711"})
    assert other.stdout == here


def test_diff_shows_rules_with_sections_and_what_reads_anew(draft: Path) -> None:
    found = json.loads(cps("diff", CURRENT, str(draft), json_wanted=True).stdout)
    assert found["rules"] == [
        {"section": "1.2", "path": "cps.version", "old": "1.0.0", "new": "1.1.0"},
        {"section": "4.2/gateway", "path": "classes.gateway.steps.approve.count", "old": "2", "new": "3"},
    ]
    assert {(each["section"], each["what"]) for each in found["texts"]} == {("1.2", "prose"), ("4.2.2", "tables")}
    shown = cps("diff", CURRENT, str(draft)).output
    assert "4.2/gateway" in shown
    assert "en, fa" in shown


def test_diff_says_when_two_that_differ_have_one_name(draft: Path) -> None:
    draft.write_text(draft.read_text(encoding="utf-8").replace("version: 1.1.0", "version: 1.0.0"), encoding="utf-8")
    assert "needs a version of its own" in cps("diff", CURRENT, str(draft)).stderr


def test_a_pack_may_have_its_texts_elsewhere(draft: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "4.yaml").write_text(yaml.safe_dump({"4.9.4": "procedural"}), encoding="utf-8")
    for pack in (str(draft), CURRENT):
        found = json.loads(cps("check", pack, "--texts", str(folder), json_wanted=True).stdout)
        assert "4.9.5" in {each["at"] for each in found["problems"]}


def test_what_is_no_pack_is_refused_with_the_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("cps: {}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, reason in (
        (["check", "kwbp-cps-9.9.9"], "there is no published pack 'kwbp-cps-9.9.9'"),
        (["check", str(broken)], "breaks its schema"),
        (["check", "--texts", str(empty)], "there are no texts"),
    ):
        error = cps(*arguments).exception
        assert isinstance(error, PackError)
        assert reason in str(error)


def test_a_pack_error_is_one_sentence_and_no_trace() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "cps", "check", "kwbp-cps-9.9.9"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("✗ there is no published pack")
    assert "Traceback" not in ended.stderr
