"""Change of passphrase: the old one opens nothing any more, and whatever interrupts it, one of the two opens it all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.secrets import Secret
from storefront.errors import WalletBusy, WalletLocked
from storefront.wallet import container

pytestmark = pytest.mark.usefixtures("cheap_guesses")

OLD, NEW = Secret(b"correct horse"), Secret(b"battery staple")
DOCUMENT = {"cards": {"mehr": {"pan": "6037701000000007"}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.kwbp"
    container.create(path, OLD, DOCUMENT)
    return path


def test_the_new_one_opens_the_wallet_and_the_old_one_does_not(path: Path) -> None:
    before = json.loads(path.read_bytes().partition(b"\n")[0])
    container.change_passphrase(path, OLD, NEW)
    after = json.loads(path.read_bytes().partition(b"\n")[0])
    assert container.read(path, NEW) == DOCUMENT
    with pytest.raises(WalletLocked):
        container.read(path, OLD)
    assert before["salt"] != after["salt"]
    assert sorted(each.name for each in path.parent.iterdir()) == [
        *("wallet.kwbp", "wallet.kwbp.lock", "wallet.kwbp.tries", "wallet.kwbp.tries.lock"),
    ]


def test_whoever_does_not_know_the_old_one_changes_nothing(path: Path) -> None:
    honest = path.read_bytes()
    with pytest.raises(WalletLocked):
        container.change_passphrase(path, NEW, NEW)
    assert path.read_bytes() == honest


def test_nobody_changes_it_under_the_hands_of_another(path: Path) -> None:
    with container.editing(path, OLD), pytest.raises(WalletBusy):
        container.change_passphrase(path, OLD, NEW)
    assert container.read(path, OLD) == DOCUMENT


_PROGRAM = """
import os, signal, sys
from pathlib import Path
from runtime.secrets import Secret
from storefront.wallet import container

real = Path.replace

def replace(self, target):
    wallet = target.name == "wallet.kwbp"
    if wallet and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, target)
    if wallet:
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = replace
container.change_passphrase(Path(sys.argv[1]), Secret(b"correct horse"), Secret(b"battery staple"))
"""


@pytest.mark.parametrize(("moment", "opens", "opens_not"), [("before", OLD, NEW), ("after", NEW, OLD)])
def test_killed_at_any_moment_one_of_the_two_opens_the_whole(
    path: Path, moment: str, opens: Secret, opens_not: Secret
) -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    for file in path.parent.iterdir():
        assert b"6037701000000007" not in file.read_bytes()
    with pytest.raises(WalletLocked):
        container.read(path, opens_not)
    assert container.read(path, opens) == DOCUMENT
    container.change_passphrase(path, opens, Secret(b"a third one"))  # what was left behind is in nobody's way
    assert container.read(path, Secret(b"a third one")) == DOCUMENT
