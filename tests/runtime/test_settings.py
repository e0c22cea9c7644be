"""Settings: one file, overridden by variables; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.settings import Home, Settings, SettingsError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def test_a_variable_overrides_the_file(home: Home) -> None:
    home.config.write_text("[gateway]\nack_timeout = 900.0\n")
    settings = Settings.load(home, {"KWBP_GATEWAY__ACK_TIMEOUT": "60", "KWBP_HOME": "elsewhere"})
    assert settings.gateway.ack_timeout == 60.0
    assert settings.gateway.answer_timeout == 25.0


def test_folders_are_for_this_user_alone(home: Home) -> None:
    assert {folder.stat().st_mode & 0o777 for folder in (home.path, *home.path.iterdir())} == {0o700}


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (b"[hsm", {}),
        (b"\xff", {}),
        (b"colour = 1", {}),
        (b"[hsm]\nport = 0", {}),
        (b"hsm = 5", {"KWBP_HSM__PORT": "1"}),
        (b"", {"KWBP_SWITCH__PORT": "70000"}),
        (b"", {"KWBP_GATEWAY__PORT": "0"}),
        (b"", {"KWBP_HSM__PORT": "1", "KWBP_HSM__PORT__X": "1"}),
    ],
)
def test_what_is_not_as_expected_is_one_error_that_names_no_value(
    home: Home, text: bytes, variables: dict[str, str]
) -> None:
    home.config.write_bytes(text)
    with pytest.raises(SettingsError):
        Settings.load(home, variables)


def test_an_error_does_not_tell_what_was_given(home: Home) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(home, {"KWBP_HSM__PORT": "6037701000000007"})
    assert "6037701000000007" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ca:hunter2@db/ca",
        "postgresql://ca@db/ca?password=hunter2",
        "mysql://ca@db/hunter2",
        "/var/lib/hunter2.sqlite",
    ],
)
def test_a_database_is_named_by_a_url_that_holds_no_password(home: Home, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(home, {"KWBP_CA__DATABASE": url})
    assert "hunter2" not in str(caught.value)


def test_a_password_is_named_by_a_file_of_libpqs(home: Home) -> None:
    url = "postgresql://ca@db.example/ca?sslmode=verify-full&passfile=/etc/kwbp/pgpass"
    assert Settings.load(home, {"KWBP_CA__DATABASE": url}).ca.database == url
