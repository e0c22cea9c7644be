from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from runtime.secrets import Secret
from storefront.errors import WalletBusy, WalletError, WalletLocked
from storefront.wallet import container

PASSPHRASE = Secret(b"correct horse")
DOCUMENT = {"cards": [{"label": "mehr", "pan": "6037701000000007"}]}


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    path = tmp_path / "buyer" / "wallet.kwbp"
    container.create(path, PASSPHRASE, DOCUMENT)
    return path


def rewrite_header(path: Path, **changes: object) -> None:
    line, _, rest = path.read_bytes().partition(b"\n")
    header = json.loads(line) | changes
    path.write_bytes(json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n" + rest)


def test_a_wallet_opens_with_its_passphrase_only(wallet: Path) -> None:
    assert container.read(wallet, PASSPHRASE) == DOCUMENT
    with pytest.raises(WalletLocked):
        container.read(wallet, Secret(b"correct horsf"))


def test_the_file_shows_nothing_and_is_for_its_owner_alone(wallet: Path) -> None:
    assert b"6037701000000007" not in wallet.read_bytes()
    assert b"mehr" not in wallet.read_bytes()
    assert stat.S_IMODE(wallet.stat().st_mode) == 0o600
    assert stat.S_IMODE(wallet.parent.stat().st_mode) == 0o700


def test_an_existing_wallet_is_not_replaced(wallet: Path) -> None:
    with pytest.raises(WalletError, match="already a wallet"):
        container.create(wallet, PASSPHRASE, {})
    assert container.read(wallet, PASSPHRASE) == DOCUMENT


def test_every_changed_byte_of_the_ciphertext_locks_the_wallet(wallet: Path) -> None:
    honest = wallet.read_bytes()
    start = honest.index(b"\n") + 1
    for place in (start, start + 5, len(honest) - 1):
        changed = bytearray(honest)
        changed[place] ^= 1
        wallet.write_bytes(changed)
        with pytest.raises(WalletLocked):
            container.read(wallet, PASSPHRASE)


@pytest.mark.parametrize(
    "changes",
    [
        {"passes": 1},
        {"memory_kib": 8 * 1024},
        {"memory_kib": 64 * 1024 * 1024},
        {"memory_kib": 256 * 1024 + 1},
        {"lanes": 0},
        {"salt": "00"},
        {"nonce": "00" * 12},
        {"format": "other"},
        {"version": 2},
        {"passes": "many"},
    ],
    ids=str,
)
def test_a_changed_header_locks_the_wallet(wallet: Path, changes: dict[str, object]) -> None:
    rewrite_header(wallet, **changes)
    with pytest.raises(WalletLocked):
        container.read(wallet, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"{}", b"{}\n", b"[]\nx", b"\xff\n", b"x" * 5000 + b"\n"])
def test_what_is_no_wallet_is_refused(wallet: Path, content: bytes) -> None:
    wallet.write_bytes(content)
    with pytest.raises(WalletLocked):
        container.read(wallet, PASSPHRASE)


def test_a_missing_wallet_is_named(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="no wallet"):
        container.read(tmp_path / "none", PASSPHRASE)
    with pytest.raises(WalletError, match="no wallet"), container.editing(tmp_path / "none", PASSPHRASE):
        pass


def test_an_edit_is_kept_and_reseals_with_fresh_salt_and_nonce(wallet: Path) -> None:
    before = json.loads(wallet.read_bytes().partition(b"\n")[0])
    with container.editing(wallet, PASSPHRASE) as document:
        document["cards"].append({"label": "second"})
    after = json.loads(wallet.read_bytes().partition(b"\n")[0])
    assert len(container.read(wallet, PASSPHRASE)["cards"]) == 2
    assert before["salt"] != after["salt"]
    assert before["nonce"] != after["nonce"]


def test_an_edit_that_fails_changes_nothing(wallet: Path) -> None:
    honest = wallet.read_bytes()
    with pytest.raises(RuntimeError), container.editing(wallet, PASSPHRASE) as document:
        document["cards"].clear()
        raise RuntimeError
    assert wallet.read_bytes() == honest


def test_two_writers_do_not_meet(wallet: Path) -> None:
    with container.editing(wallet, PASSPHRASE):
        with pytest.raises(WalletBusy), container.editing(wallet, PASSPHRASE):
            pass
    with container.editing(wallet, PASSPHRASE):
        pass


def test_a_left_over_temporary_file_does_no_harm(wallet: Path) -> None:
    leftover = wallet.with_name(wallet.name + ".new")
    leftover.write_bytes(b"half")
    leftover.chmod(0o600)
    with container.editing(wallet, PASSPHRASE) as document:
        document["seen"] = True
    assert container.read(wallet, PASSPHRASE)["seen"] is True
