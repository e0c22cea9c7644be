"""A rehearsal of the whole on SoftHSM: the root's PIN goes into shares, two custodians open the root room, two officers
seal what was done there, and whoever has the folder verifies it. People type at a real terminal.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from ca.ceremony.acts import ready_made
from ca.ceremony.words import words
from hsm_service.pin_shares import record_file
from hsm_service.token_layout import pin_file
from runtime.settings import Home
from tests.support.ready_python import Python

OFFICERS = ("security-officer-1", "security-officer-2")
CUSTODIANS = ("Ali", "Maryam", "Reza")
Answers = Iterable[tuple[bytes, Callable[[], str]]]


def kwbp(home: Path, *arguments: str) -> str:
    command = ["-m", "cli", "--home", home, "--json", *arguments]
    with Python(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        said, complaint = child.communicate(timeout=120)
    assert child.returncode == 0, complaint
    return str(said)


def at_terminal(home: Path, *arguments: str, answers: Answers) -> tuple[int, bytes]:
    """Run a command on a terminal and type each answer once its prompt has come; all that the terminal showed."""
    ours, theirs = pty.openpty()
    command = ["-m", "cli", "--home", home, *arguments]
    child = Python(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said, seen = b"", 0
    for prompt, answer in answers:
        while (at := said.find(prompt, seen)) < 0:
            said += read(ours)
        seen = at + len(prompt)
        os.write(ours, answer().encode() + b"\n")
    while more := read(ours, end=True):
        said += more
    os.close(ours)
    return child.wait(60), said


def read(descriptor: int, *, end: bool = False) -> bytes:
    try:
        said = os.read(descriptor, 4096)
    except OSError:  # the other end was closed
        said = b""
    assert said or end, "the command ended before it asked"
    return said


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A founded installation; its officers' passphrases are in files."""
    home = tmp_path_factory.mktemp("sealed") / "home"
    kwbp(home, "init")
    for person in OFFICERS:
        kwbp(home, "officer", "new-passphrase", str(passphrase(home, person)))
        kwbp(
            home,
            "officer",
            "new-key",
            person,
            "--passphrase-file",
            str(passphrase(home, person)),
            "--algorithm",
            "ec-p256",
        )
    kwbp(home, "ceremony", "run", str(smaller(home.parent / "founding.yaml")))
    return home


def smaller(path: Path) -> Path:
    """The founding ceremony with what a seal needs, and no more."""
    found = yaml.safe_load(ready_made()["kwbp"].read_text(encoding="utf-8"))
    found["authorities"] = [each for each in found["authorities"] if each["name"] in {"brand", "operations-ca"}]
    found["system_keys"] = [each for each in found["system_keys"] if each["name"].startswith(("att", "tsa", "log"))]
    found["authorities"][1]["template"] = "issuing-ca-ec"
    found["services"] = []
    del found["next_root"]
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return path


def passphrase(home: Path, person: str) -> Path:
    return home / "secrets" / f"{person}.passphrase"


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_a_root_ceremony_by_shares_is_sealed_and_verified_offline(home: Path, tmp_path: Path) -> None:
    pin = pin_file(Home.find(home), "root").read_bytes().strip()
    shares = tmp_path / "shares"
    split = ["token", "pin", "split", "root", "--needed", "2", "--files", str(shares), "--remove-file"]
    split += [part for name in CUSTODIANS for part in ("--custodian", name)]

    # The files are written by the time the first prompt comes.
    def written(number: int) -> str:
        (path,) = shares.glob(f"root-*-{number}.share")
        assert path.stat().st_mode & 0o777 == 0o600
        return " ".join(path.read_text().splitlines()[1:])

    code, said = at_terminal(
        home, *split, answers=[(b"Share 1 of 2", lambda: written(3)), (b"Share 2 of 2", lambda: written(1))]
    )
    assert code == 0, said.decode()
    assert not pin_file(Home.find(home), "root").exists()
    assert b"still resets the PIN" in said
    canaries = {number: written(number) for number in (1, 2, 3)}
    record = json.loads(record_file(Home.find(home), "root").read_text())
    assert (record["needed"], record["custodians"]) == (2, list(CUSTODIANS))

    # A share given twice is refused, and the token not touched; with two different ones the root signs its next CRL.
    wrong = [(b"Share 1 of 2", lambda: canaries[2]), *[(b"Share 2 of 2", lambda: canaries[2])] * 3]
    code, said = at_terminal(home, "ceremony", "run", "root-crl", answers=wrong)
    assert code != 0
    shown = said
    right = [(b"Share 1 of 2", lambda: canaries[2]), (b"Share 2 of 2", lambda: canaries[3])]
    code, said = at_terminal(home, "ceremony", *again(home), answers=right)
    assert code == 0, said.decode()
    shown += said
    assert b"of Maryam is taken" in said

    for person in OFFICERS:
        kwbp(home, "ceremony", "seal", "--as", person, "--passphrase-file", str(passphrase(home, person)))
    kwbp(home, "ceremony", "seal", "--stamp")

    report = json.loads(kwbp(tmp_path / "elsewhere", "ceremony", "verify", "--folder", str(home / "pki")))
    assert report["sealed"]["missing"] == []
    assert len(report["sealed"]["seals"]) == 2
    for seal in report["sealed"]["seals"]:
        assert [each["person"] for each in seal["by"]] == list(OFFICERS)
        assert seal["stamped_at"]
    assert " ".join(words(report["transcript"])) in said.decode()

    # No share and no PIN stands anywhere but where it was asked for.
    for words_of in canaries.values():
        run = words_of.split()[5:9]
        pattern = re.compile(rb"\s+".join(word.encode() for word in run))
        assert pattern.search(shown) is None
        assert [path for path, content in contents(home) if pattern.search(content)] == []
    assert [path for path, content in contents(home) if pin in content] == []


def again(home: Path) -> list[str]:
    """How the ceremony goes on after its root room did not open: resumed if it had begun, else run."""
    left = kwbp(home, "ceremony", "state")
    return ["resume"] if '"can_resume": true' in left else ["run", "root-crl"]
