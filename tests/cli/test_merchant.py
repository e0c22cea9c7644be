"""Configuring merchant servers: whatever the shop is called, the settings stay settings."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import typer

from cli import merchant
from cli.state import select
from runtime.secrets import SecretFileError
from runtime.settings import Home, Settings

PLAIN = "[ca]\nport = 7110\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    home.config.write_text(PLAIN)
    select(home.path)
    return home


def configure(name: str = "bookshop", shop: str = "Books", **changes: object) -> None:
    options = {"merchant_id": "M-1", "terminal": "T1", "port": 7160, "key": "k", "own_key": None, "catalogue": None}
    merchant.configure(name, shop=shop, **{**options, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "shop", ["Books", 'x"\nport = 1\n[ca]\nport = 2\n#', "back\\slash", "کتاب‌فروشی", "tab\tand \x7f"], ids=range(5)
)
def test_the_name_of_a_shop_is_a_name_and_nothing_else(home: Home, shop: str) -> None:
    configure(shop=shop)
    settings = Settings.load(home, {})
    assert (settings.merchants["bookshop"].name, settings.merchants["bookshop"].port) == (shop, 7160)
    assert settings.ca.port == 7110


@pytest.mark.parametrize("name", ["", "a.b", "a]\n[hsm", "../up", "Shop"])
def test_a_name_that_is_none_changes_nothing(home: Home, name: str) -> None:
    with pytest.raises(typer.Exit):
        configure(name=name)
    assert home.config.read_text() == PLAIN


def test_a_merchants_own_key_is_never_readable_by_others(home: Home, tmp_path: Path) -> None:
    key = tmp_path / "own.key"
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    key.chmod(0o644)
    with pytest.raises(SecretFileError, match="0644"):
        configure(key=None, own_key=key)
    assert home.config.read_text() == PLAIN
    key.chmod(0o600)
    configure(key=None, own_key=key)
    kept = home.path / "merchants" / "bookshop.key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_bytes() == key.read_bytes()


def test_settings_that_do_not_hold_are_taken_back(home: Home) -> None:
    with pytest.raises(Exception, match="not as expected"):
        configure(port=70_000)
    assert home.config.read_text() == PLAIN
