"""`kwbp token`: the tokens of this machine, what they can do, their PINs."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cli.main import main
from hsm_service import pkcs11_module
from hsm_service.errors import PinRefused
from hsm_service.provision import open_token
from hsm_service.token_layout import configuration_of, layout, pin_file
from runtime.secrets import read_secret, write_secret
from runtime.settings import Home


@dataclass
class Done:
    """How a command ended."""

    returncode: int | str | None
    stdout: str
    stderr: str


def kwbp(home: Home, *arguments: str) -> Done:
    """Run the command in this process, which must not hold a token."""
    if pkcs11_module._module is not None:
        pkcs11_module._module.finalize()
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["kwbp", "--home", str(home.path), *arguments]):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    return Done(end.value.code or 0, out.getvalue(), err.getvalue())


def answer(home: Home, *arguments: str) -> Any:
    done = kwbp(home, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def opens(home: Home, label: str = "ca") -> bool:
    """Whether the PIN in the token's file is the token's."""
    try:
        open_token(home, label).close()
    except PinRefused:
        return False
    return True


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation just made; nobody changes it."""
    home = Home(tmp_path_factory.mktemp("tokens") / "home")
    assert kwbp(home, "init").returncode == 0
    return home


@pytest.fixture
def home(founded: Home, tmp_path: Path) -> Home:
    """An installation of the test's own."""
    home = Home(tmp_path / "home")
    shutil.copytree(founded.path, home.path)
    for configuration in home.tokens.glob("*.conf"):
        text = configuration.read_text("utf-8").replace(str(founded.tokens), str(home.tokens))
        configuration.write_text(text, "utf-8")
    return home


def test_the_help_tells_where_tokens_and_pins_are(founded: Home) -> None:
    shown = kwbp(founded, "token", "--help").stdout
    assert all(
        word in shown for word in ("[tokens.ca]", "pkcs11:", "pin-source", "credential:", "list", "probe", "pin")
    )


def test_tokens_are_listed_with_their_state(founded: Home) -> None:
    listed = answer(founded, "token", "list")
    states = {each["label"]: each["state"] for each in listed}
    assert states == {label: "ready" for group in layout().groups.values() for label in group.tokens}
    assert f"file:{pin_file(founded, 'ca')}" in {each["pin"] for each in listed}
    assert read_secret(pin_file(founded, "ca")).reveal().decode() not in json.dumps(listed)
    assert "merchants" in kwbp(founded, "token", "list").stdout


def test_what_stands_against_a_token_is_its_state(home: Home) -> None:
    pin_file(home, "ca").chmod(0o644)
    pin_file(home, "gateway").unlink()
    configuration_of(home, "root").unlink()
    with home.config.open("a") as file:
        file.write('[tokens.vendor]\nuri = "pkcs11:token=vendor?module-path=/none/vendor.so"\n')
        file.write('[tokens.merchants]\nuri = "pkcs11:token=merchants?pin-source=prompt:"\n')
        file.write(f'configuration = "{configuration_of(home, "service")}"\n')
    done = kwbp(home, "--json", "token", "list")
    assert done.returncode == 1
    states = {each["label"]: each["state"] for each in json.loads(done.stdout)}
    assert "not made yet" in states["root"]
    assert "0644" in states["ca"]
    assert "No such file" in states["gateway"]
    assert states["merchants"] == "ready"
    assert "/none/vendor.so" in states["vendor"]


def test_a_probe_tells_what_a_token_can_and_why_not_the_rest(founded: Home) -> None:
    probed = answer(founded, "token", "probe", "gateway")
    abilities = {each["ability"]: each for each in probed["abilities"]}
    assert abilities["ecdsa-p256"]["ok"]
    assert all(each["ok"] or each["reason"] for each in probed["abilities"])
    purposes = {each["purpose"]: each for each in probed["purposes"]}
    assert purposes["cms"]["ok"]
    assert "ec-p256" in purposes["cms"]["algorithms"]
    assert all(each["ok"] or each["reason"] for each in probed["purposes"])
    shown = kwbp(founded, "token", "probe", "gateway").stdout
    assert "ecdsa-p256" in shown
    assert "open-order" in shown


def test_a_token_that_is_not_there_is_named(founded: Home) -> None:
    done = kwbp(founded, "token", "probe", "treasury")
    assert done.returncode == 1
    assert "treasury" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_random_pin_replaces_the_old_one_in_token_and_file(home: Home) -> None:
    old = read_secret(pin_file(home, "ca"))
    changed = answer(home, "token", "pin", "change", "ca", "--random")
    new = read_secret(pin_file(home, "ca"))
    assert old != new
    assert new.reveal().decode() not in json.dumps(changed)
    assert stat.S_IMODE(pin_file(home, "ca").stat().st_mode) == 0o600
    assert opens(home)
    assert sorted(home.secrets.glob("token-ca*")) == [pin_file(home, "ca"), home.secrets / "token-ca.so-pin"]


def test_a_new_pin_comes_from_a_file(home: Home, tmp_path: Path) -> None:
    write_secret(tmp_path / "new", b"nine-8-seven\n")
    assert answer(home, "token", "pin", "change", "ca", "--new-file", str(tmp_path / "new"))["changed"]
    assert read_secret(pin_file(home, "ca")).reveal() == b"nine-8-seven"
    assert opens(home)


@pytest.mark.parametrize("pin", [b"123", b"", b"two\nlines", "رمز".encode(), b"9" * 256])
def test_a_pin_that_is_none_changes_nothing(home: Home, tmp_path: Path, pin: bytes) -> None:
    """SoftHSM2 takes four characters at least; the rest is refused before the token is asked."""
    old = read_secret(pin_file(home, "ca"))
    write_secret(tmp_path / "new", pin)
    done = kwbp(home, "token", "pin", "change", "ca", "--new-file", str(tmp_path / "new"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not pin or pin.decode() not in done.stderr
    assert read_secret(pin_file(home, "ca")) == old
    assert not (home.secrets / "token-ca.pin.new").exists()
    assert opens(home)


def test_a_wrong_old_pin_is_tried_once_and_changes_nothing(home: Home) -> None:
    pin_file(home, "ca").write_bytes(b"0000-wrong")
    done = kwbp(home, "token", "pin", "change", "ca", "--random")
    assert done.returncode == 1
    assert "refused the PIN" in done.stderr
    assert not (home.secrets / "token-ca.pin.new").exists()
    assert answer_state(home) == "a wrong PIN was tried since the last login"


@pytest.mark.parametrize("reached_the_token", [False, True])
@pytest.mark.parametrize("command", [("settle", "ca"), ("change", "ca", "--random")])
def test_an_interrupted_change_is_settled(home: Home, reached_the_token: bool, command: tuple[str, ...]) -> None:
    current, waiting = pin_file(home, "ca"), home.secrets / "token-ca.pin.new"
    old = read_secret(current).reveal()
    if reached_the_token:
        answer(home, "token", "pin", "change", "ca", "--random")
        current.rename(waiting)
        write_secret(current, old)
    else:
        write_secret(waiting, b"never-given")
    assert "interrupted" in answer_state(home)
    answer(home, "token", "pin", *command)
    assert opens(home)
    assert not waiting.exists()
    assert answer_state(home) == "ready"
    if command[0] == "settle":
        assert (read_secret(current).reveal() == old) is not reached_the_token


def test_if_neither_pin_is_the_tokens_both_are_kept(home: Home) -> None:
    pin_file(home, "ca").write_bytes(b"0000-wrong")
    write_secret(home.secrets / "token-ca.pin.new", b"1111-wrong")
    assert kwbp(home, "token", "pin", "settle", "ca").returncode == 1
    assert read_secret(pin_file(home, "ca")).reveal() == b"0000-wrong"
    assert read_secret(home.secrets / "token-ca.pin.new").reveal() == b"1111-wrong"


def test_nothing_interrupted_is_nothing_to_settle(home: Home) -> None:
    assert answer(home, "token", "pin", "settle", "ca") == {"token": "ca", "settled": "nothing"}


def test_a_pin_that_is_kept_elsewhere_is_changed_in_the_token_only(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    pin_file(home, "ca").rename(credentials / "ca-pin")
    with home.config.open("a") as file:
        file.write('[tokens.ca]\nuri = "pkcs11:token=ca?pin-source=credential:ca-pin"\n')
        file.write(f'configuration = "{configuration_of(home, "service")}"\n')
    write_secret(tmp_path / "new", b"nine-8-seven")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    change = ("token", "pin", "change", "ca")
    assert kwbp(home, *change, "--random").returncode == 1
    done = kwbp(home, *change, "--new-file", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert "credential:ca-pin" in done.stdout
    assert kwbp(home, "token", "probe", "ca").returncode == 1
    (credentials / "ca-pin").write_bytes(b"nine-8-seven")
    assert kwbp(home, "token", "probe", "ca").returncode == 0


def answer_state(home: Home, label: str = "ca") -> Any:
    """The state of a token in the list."""
    listed = json.loads(kwbp(home, "--json", "token", "list").stdout)
    return next(each["state"] for each in listed if each["label"] == label)
