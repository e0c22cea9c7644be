"""`kwbp audit` and `kwbp witness` on an installation that has one log, signed and witnessed."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from audit.checkpoint_files import CheckpointFiles
from audit.journal import Journal
from audit.keeper import log_path, pin_witness
from audit.log_key import LOGS, key_name
from audit.note import cosign
from audit.witness_service import WitnessFolder
from cli.main import main
from runtime.settings import Home
from tests.support.pki_factory import NOW, PkiFactory, pem
from tests.support.tlog import LogKeys

DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Six entries, five of them signed and witnessed. The certificates are valid now."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.create()
    home.config.write_text("")
    pki = PkiFactory(now=datetime.now(UTC))
    keys = {log: LogKeys(key_name(log), pki) for log in LOGS}
    home.trust_anchors.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    (home.pki / "keys").mkdir()
    for log, each in keys.items():
        (home.pki / "keys" / f"{key_name(log)}.pem").write_bytes(pem(*each.log_key.chain))
    folder = WitnessFolder(home.witness)
    witness = folder.create()
    pin_witness(home, witness)
    path = log_path(home, "hsm")
    with Journal.open(path) as journal:
        for number in range(5):
            journal.append({"event": "test", "number": number, "output_sha256": DIGEST if number == 3 else None})
        note = keys["hsm"].note(journal.head)
        note = note.with_signatures(cosign(note.text, witness.name, folder.key(), int(NOW.timestamp())))
        CheckpointFiles(path).keep_witnessed(note)
        journal.publish(note.encode())
        journal.append({"event": "tail"})
    return home


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def kwbp(home: Home | Path, *arguments: str) -> Ended:
    """The command, in this process: its start alone would be most of what these tests take."""
    path = home.path if isinstance(home, Home) else home
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["kwbp", "--home", str(path), "--json", *arguments])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def answer(home: Home | Path, *arguments: str) -> Any:
    result = kwbp(home, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_verify_says_who_vouches_for_how_much(home: Home) -> None:
    (log,) = answer(home, "audit", "verify")
    assert (log["log"], log["whole"], log["entries"], log["signed"], log["witnessed"]) == ("hsm", True, 6, 5, 5)
    assert log["unsigned"] == 1
    assert log["key"].startswith("log-hsm ← ")


def test_an_altered_entry_ends_verify_with_one(home: Home, tmp_path: Path) -> None:
    path = log_path(home, "hsm")
    honest = path.read_bytes()
    path.write_bytes(honest.replace(b'"number":2', b'"number":7'))
    try:
        result = kwbp(home, "audit", "verify")
    finally:
        path.write_bytes(honest)
    assert result.returncode == 1
    assert json.loads(result.stdout)[0]["whole"] is False


def test_what_is_proven_here_is_checked_elsewhere(home: Home, tmp_path: Path) -> None:
    for reference, index in (("4", 4), (DIGEST, 3)):
        file = tmp_path / f"{index}.tlog-proof"
        assert answer(home, "audit", "prove", reference, "--log", "hsm", "--out", str(file))["index"] == index
        proven = answer(tmp_path, "audit", "check", str(file), "--root", str(home.trust_anchors))
        assert (proven["entry"]["entry"]["number"], proven["witnessed"]) == (index, None)  # no witness is trusted there
    file.write_bytes(file.read_bytes().replace(b"index 3", b"index 2"))
    refused = kwbp(tmp_path, "audit", "check", str(file), "--root", str(home.trust_anchors))
    assert refused.returncode == 1
    assert "not-included" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prove", "5", "--out", "x"), "covers 5 entries"),
        (("prove", "cd" * 32, "--out", "x"), "no entry has this digest"),
        (("prove", "what", "--out", "x"), "by its number"),
        (("prove", "1", "--log", "root", "--out", "x"), "there is no log"),
        (("prove", "1", "--log", "../secrets", "--out", "x"), "there is no log"),
        (("tail", "--log", "nothing"), "there is no log"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(home: Home, arguments: tuple[str, ...], said: str) -> None:
    result = kwbp(home, "audit", *arguments)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_the_last_entries_as_recorded(home: Home) -> None:
    lines = kwbp(home, "audit", "tail", "-n", "2").stdout.splitlines()
    assert [json.loads(line)["index"] for line in lines] == [4, 5]
    assert len(kwbp(home, "audit", "tail", "-n", "99").stdout.splitlines()) == 6
    assert kwbp(home, "audit", "tail", "-n", "0").stdout == ""


def test_an_export_is_complete(home: Home, tmp_path: Path) -> None:
    assert answer(home, "audit", "export", "--out", str(tmp_path / "out"))["entries"] == 6
    names = {file.name for file in (tmp_path / "out").iterdir()}
    expected = {"README", "certificates.pem", "hsm.head", "hsm.jsonl", "hsm.log", "root.pem", "verify.py"}
    assert names == expected | {"witness.vkey"}


def test_a_witness_trusts_the_logs_whose_certificates_lead_to_the_root(home: Home) -> None:
    assert len(answer(home, "witness", "trust")) == len(LOGS)
    shown = answer(home, "witness", "show")
    assert shown["pinned"] == shown["own"]
    assert len(shown["logs"]) == len(LOGS)
    assert answer(home, "witness", "create")["vkey"] == shown["own"]
    bad = kwbp(home, "witness", "pin", "kwbp/witness+00000000+BA==")
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr


def test_a_log_that_was_removed_is_missed(home: Home) -> None:
    path = log_path(home, "hsm")
    aside = path.rename(path.with_suffix(".aside"))
    try:
        result = kwbp(home, "audit", "verify")
    finally:
        aside.rename(path)
    assert result.returncode == 1
    assert "journal-missing" in json.loads(result.stdout)[0]["fault"]
