"""Where a token is: in the default layout, or where kwbp.toml says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm_service.errors import TokenNotFound
from hsm_service.pin_sources import PinCredential, PinFile
from hsm_service.pkcs11_module import find_module
from hsm_service.token_layout import configuration_of, pin_file
from hsm_service.token_source import token_labels, token_source
from runtime.settings import Home, Settings, SettingsError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    configuration_of(home, "service").touch()
    return home


def settings(home: Home, uri: str, label: str = "ca", more: str = "") -> Settings:
    home.config.write_text(f'[tokens.{label}]\nuri = "{uri}"\n{more}')
    return Settings.load(home, {})


def test_by_default_a_token_is_in_softhsm_with_its_pin_in_a_file(home: Home) -> None:
    source = token_source(home, Settings(), "ca")
    assert source == (find_module(), configuration_of(home, "service"), PinFile(pin_file(home, "ca")))


def test_a_section_puts_a_token_elsewhere(home: Home) -> None:
    module, configuration = home.path / "vendor.so", home.path / "its.conf"
    module.touch()
    configuration.touch()
    found = settings(
        home,
        f"pkcs11:token=ca?pin-source=credential:ca-pin&module-path={module}",
        more=f'configuration = "{configuration}"',
    )
    assert token_source(home, found, "ca") == (module, configuration, PinCredential("ca-pin"))


def test_what_a_section_leaves_out_is_as_in_the_default_layout(home: Home) -> None:
    assert token_source(home, settings(home, "pkcs11:token=ca"), "ca") == (
        find_module(),
        None,
        PinFile(pin_file(home, "ca")),
    )


def test_a_section_can_add_a_token(home: Home) -> None:
    found = settings(home, "pkcs11:token=vault", "vault")
    assert token_labels(found) == ("root", "ca", "gateway", "merchants", "standby", "vault")
    assert token_source(home, found, "vault").pin == PinFile(pin_file(home, "vault"))


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pkcs11:token=gateway", "not 'ca'"),
        ("pkcs11:", "not 'ca'"),
        ("pkcs11:token=ca;serial=1", "serial cannot be held to"),
        ("pkcs11:token=ca?module-name=softhsm2", "give module-path"),
        ("pkcs11:token=ca?module-path=softhsm2.so", "not absolute"),
        ("pkcs11:token=ca?pin-source=|pinentry", "command"),
        ("pkcs11:token=ca;token=ca", "twice"),
    ],
)
def test_a_uri_that_cannot_be_followed_exactly_is_refused(home: Home, uri: str, reason: str) -> None:
    found = settings(home, uri)
    with pytest.raises(SettingsError, match=reason) as caught:
        token_source(home, found, "ca")
    assert "[tokens.ca]" in str(caught.value)


@pytest.mark.parametrize("uri", ["pkcs11:token=ca?pin-value=73019284", "softhsm:ca?pin=73019284"])
def test_settings_with_a_pin_are_not_even_loaded(home: Home, uri: str) -> None:
    with pytest.raises(SettingsError, match="pin-source") as caught:
        settings(home, uri)
    assert "73019284" not in str(caught.value)


def test_a_module_or_configuration_that_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(TokenNotFound, match=r"/none/vendor\.so"):
        token_source(home, settings(home, "pkcs11:token=ca?module-path=/none/vendor.so"), "ca")
    with pytest.raises(TokenNotFound, match="not made yet"):
        token_source(home, settings(home, "pkcs11:token=ca", more='configuration = "/none/its.conf"'), "ca")
    with pytest.raises(SettingsError, match="not an absolute path"):
        token_source(home, settings(home, "pkcs11:token=ca", more='configuration = "its.conf"'), "ca")
    with pytest.raises(TokenNotFound, match="not made yet"):
        token_source(home, Settings(), "root")
    with pytest.raises(TokenNotFound, match="treasury"):
        token_source(home, Settings(), "treasury")
