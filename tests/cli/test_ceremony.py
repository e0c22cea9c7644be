"""`kwbp ceremony` on SoftHSM, as officers use it: rehearsed, run, refused by a wrong PIN, verified from an archive."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsm_service.pin_sources import PinFile
from hsm_service.token_layout import pin_file
from runtime.secrets import Secret
from runtime.settings import Home
from tests.cli.test_token import answer, kwbp


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A root alone, and the next one waiting; nobody changes it for good."""
    home = Home(tmp_path_factory.mktemp("ceremony") / "home")
    assert kwbp(home, "init").returncode == 0
    assert answer(home, "ceremony", "run", "root")["kind"] == "root"
    return home


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_ready_made_file_is_listed_and_shown(home: Home) -> None:
    listed = answer(home, "ceremony", "files")

    assert {"kwbp", "root", "rollover", "restore", "destroyed"} <= {each["name"] for each in listed}
    assert "kind: crl" in answer(home, "ceremony", "files", "root-crl")["text"]
    assert "there is no ready-made ceremony nothing" in kwbp(home, "ceremony", "files", "nothing").stderr


def test_a_rehearsal_goes_to_the_end_and_leaves_nothing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = contents(home.path)

    done = answer(home, "ceremony", "rehearse", "destroyed")

    assert done["steps"][-1]["step"] == "publish hierarchy"
    assert contents(home.path) == before
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_pin_is_tried_once_and_nothing_is_begun(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def wrong(source: PinFile) -> Secret:
        asked.append(str(source))
        return Secret(b"00000000")

    monkeypatch.setattr(PinFile, "__call__", wrong)

    done = kwbp(home, "ceremony", "run", "root-crl")

    assert done.returncode == 1
    assert "token 'root' refused the PIN" in done.stderr
    assert asked == [f"file:{pin_file(home, 'root')}"]
    assert answer(home, "ceremony", "state") == {"ceremony": None}


def test_a_token_that_is_not_there_is_named_and_nothing_is_begun(home: Home) -> None:
    away = home.tokens / "root.away"
    (home.tokens / "root").rename(away)
    (home.tokens / "root").mkdir()
    try:
        done = kwbp(home, "ceremony", "run", "root-crl")
        assert answer(home, "ceremony", "state") == {"ceremony": None}
    finally:
        shutil.rmtree(home.tokens / "root")
        away.rename(home.tokens / "root")

    assert done.returncode == 1
    assert "labelled 'root'" in done.stderr


def test_what_stands_already_is_not_founded_again(home: Home) -> None:
    done = kwbp(home, "ceremony", "run", "root")

    assert done.returncode == 1
    assert "there is a hierarchy already" in done.stderr


def test_a_ceremony_that_nothing_came_of_says_so_and_is_ended(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "gone.yaml"
    file.write_text(
        'ceremony: {id: gone, kind: destroy, version: 1, section: "6.2.10"}\n'
        "act: attest\nkeys:\n  - {name: root-2, template: root-ca}\n"
    )

    done = kwbp(home, "ceremony", "run", str(file))
    left = kwbp(home, "ceremony", "state")

    assert "root-2/1 is ENABLED, not gone" in done.stderr
    assert "ends it: no key and no certificate was made" in left.stdout
    assert "is not finished" in kwbp(home, "ceremony", "run", "root-crl").stderr
    assert answer(home, "ceremony", "undo", "--yes")["destroyed"] == []
    assert answer(home, "ceremony", "resume") == {"resumed": None}


def archived(home: Home, tmp_path: Path) -> str:
    archive = tmp_path / "hierarchy.tar.gz"
    answer(home, "ceremony", "export", str(archive))
    return str(archive)


def test_an_archive_is_verified_by_whoever_knows_root_and_tip(home: Home, tmp_path: Path) -> None:
    here = answer(home, "ceremony", "verify")
    archive = archived(home, tmp_path)
    nowhere = Home(tmp_path / "none")
    root = ":".join(here["roots"][0][at : at + 2] for at in range(0, 64, 2)).upper()

    there = answer(nowhere, "ceremony", "verify", "--archive", archive, "--root", root, "--tip", here["transcript"])

    assert there == here


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (lambda _archive, _pki: ["--root", "00" * 32], "the root of this folder is another one"),
        (lambda _archive, _pki: ["--tip", "00" * 32], "no ceremony here ended with"),
        (lambda archive, pki: ["--archive", archive, "--folder", pki], "either an archive or a folder"),
    ],
)
def test_another_root_or_a_ceremony_that_was_left_out_is_refused(
    home: Home, tmp_path: Path, options: Callable[[str, str], Any], sentence: str
) -> None:
    done = kwbp(home, "ceremony", "verify", *options(archived(home, tmp_path), str(home.pki)))

    assert done.returncode == 1
    assert sentence in done.stderr
