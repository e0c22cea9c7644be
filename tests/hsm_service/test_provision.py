"""Tokens of an installation: made once, apart, with random PINs that no other user can read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from hsm_service import provision
from hsm_service.errors import ModuleBusy, TokenNotFound
from hsm_service.provision import load_group, open_token, present, provision_tokens
from hsm_service.token_layout import CONFIGURATION_FOLDER, configuration_of, layout, pin_file, so_pin_file
from runtime.secrets import SecretFileError, read_secret
from runtime.settings import Home
from tests.support.softhsm import opened

LABELS = ("root", "ca", "gateway", "merchants", "standby")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_the_root_token_stands_alone() -> None:
    groups = layout().groups
    assert groups["root"].tokens == ("root",)
    assert "root" not in groups["service"].tokens
    assert layout().group_of("merchants") == "service"
    with pytest.raises(TokenNotFound, match="treasury"):
        layout().group_of("treasury")


def test_a_layout_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layout.toml").write_text('[groups.root]\ntokens = ["root"]\npins = ["1234"]\n')
    with pytest.raises(ValidationError, match="pins"):
        layout(tmp_path)


def test_every_token_of_the_layout_is_made_and_opens(home: Home) -> None:
    assert provision_tokens(home) == LABELS
    for label in LABELS:
        with opened(home, label) as token:
            assert token.keys() == []


def test_a_second_run_makes_nothing_and_changes_no_pin(home: Home) -> None:
    provision_tokens(home)
    pins = [read_secret(pin_file(home, label)) for label in LABELS]
    assert provision_tokens(home) == ()
    assert [read_secret(pin_file(home, label)) for label in LABELS] == pins


def test_pins_are_random_and_unreadable_for_others(home: Home) -> None:
    provision_tokens(home)
    files = [each(home, label) for each in (pin_file, so_pin_file) for label in LABELS]
    assert len({read_secret(file).reveal() for file in files}) == len(files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(home.tokens.stat().st_mode) == 0o700


def test_no_pin_is_written_anywhere_but_into_its_file(home: Home) -> None:
    provision_tokens(home)
    secrets = {read_secret(pin_file(home, label)).reveal() for label in LABELS}
    others = [file for file in home.path.rglob("*") if file.is_file() and home.secrets not in file.parents]
    assert others
    assert not [file for file in others if any(pin in file.read_bytes() for pin in secrets)]


def test_an_interrupted_run_is_taken_up_where_it_stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class PowerCutError(Exception):
        pass

    written: list[Path] = []
    write = provision.write_secret

    def cut_after_the_first_pin_of_the_gateway(path: Path, value: bytes) -> None:
        write(path, value)
        written.append(path)
        if path == so_pin_file(home, "gateway"):
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(provision, "write_secret", cut_after_the_first_pin_of_the_gateway)
        with pytest.raises(PowerCutError):
            provision_tokens(home)
    so_pin = read_secret(so_pin_file(home, "gateway"))
    assert provision_tokens(home) == ("gateway", "merchants", "standby")
    assert read_secret(so_pin_file(home, "gateway")) == so_pin
    with opened(home, "gateway") as token:
        assert token.keys() == []


def test_a_token_that_was_cut_off_before_its_user_pin_is_finished(home: Home) -> None:
    """C_InitToken happened, C_InitPIN did not: the token has its label but cannot be opened."""
    provision_tokens(home)
    module = load_group(home, "service")
    slot = module.token("merchants").slot
    module._library.init_token(slot.slot_id, read_secret(so_pin_file(home, "merchants")), "merchants")
    module.reinitialise()
    assert "merchants" not in module.labels()
    assert provision_tokens(home) == ("merchants",)
    with opened(home, "merchants") as token:
        assert token.keys() == []


def test_provisioning_waits_for_no_open_token(home: Home) -> None:
    provision_tokens(home)
    with opened(home, "ca"), pytest.raises(ModuleBusy):
        provision_tokens(home)


def test_a_home_without_tokens_says_so(home: Home) -> None:
    with pytest.raises(TokenNotFound, match="not made yet"):
        open_token(home, "ca")


def test_a_token_is_opened_where_the_settings_say(home: Home) -> None:
    provision_tokens(home)
    elsewhere = home.path / "officer.pin"
    pin_file(home, "ca").rename(elsewhere)
    with pytest.raises(SecretFileError):
        open_token(home, "ca")
    configuration = configuration_of(home, "service")
    home.config.write_text(
        f'[tokens.ca]\nuri = "pkcs11:token=ca?pin-source=file:{elsewhere}"\nconfiguration = "{configuration}"\n'
    )
    with opened(home, "ca") as token:
        assert token.keys() == []
    assert present(home, ["ca", "merchants"]) == ["ca", "merchants"]
    home.config.write_text('[tokens.ca]\nuri = "pkcs11:token=ca"\nconfiguration = "/nowhere/softhsm2.conf"\n')
    assert present(home, ["ca", "merchants"]) == ["merchants"]


def test_a_pin_file_that_others_can_read_is_refused(home: Home) -> None:
    provision_tokens(home)
    pin_file(home, "ca").chmod(0o644)
    with pytest.raises(SecretFileError, match="0644"):
        open_token(home, "ca")


def test_the_configuration_is_the_one_of_softhsm_config(home: Home) -> None:
    provision_tokens(home)
    template = (CONFIGURATION_FOLDER / "softhsm2.conf").read_text()
    written = configuration_of(home, "root").read_text()
    assert written == template.replace("{tokendir}", str(home.tokens / "root"))
    assert f"directories.tokendir = {home.tokens / 'root'}\n" in written
