"""Settings of notices: an address is one, a password is in a file, nothing goes in clear to another machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runtime.notice_settings import NoticesSettings
from runtime.settings import Home, Settings

SMTP = {"host": "mail.example", "user": "ra", "password_file": "/etc/kwbp/smtp"}
DOCS = Path(__file__).parents[2] / "docs"


def test_without_any_mail_goes_into_a_folder_of_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings = Settings.load(home, {})
    assert (settings.notices.smtp, settings.notices.recipients) == (None, ())
    assert home.notices == tmp_path / "notices"


@pytest.mark.parametrize("page", ["notices.md", "notices.fa.md"])
def test_the_settings_in_the_guide_are_settings(page: str) -> None:
    [example] = re.findall("```toml\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    settings = Settings.model_validate(tomllib.loads(example)).notices
    assert settings.smtp is not None
    assert settings.webhooks["desk"].events == ("revoked", "emergency_review")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_server_of_this_machine_may_go_without_tls(host: str) -> None:
    settings = NoticesSettings.model_validate({"smtp": {"host": host, "security": "none"}})
    assert settings.smtp is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"smtp": {**SMTP, "security": "none", "user": None, "password_file": None}},
        {"smtp": {**SMTP, "host": "localhost", "security": "none"}},
        {"smtp": {**SMTP, "password_file": None}},
        {"smtp": {**SMTP, "user": None}},
        {"smtp": {**SMTP, "password": "x"}},
        {"smtp": {**SMTP, "host": "mail example"}},
        {"sender": "ra"},
        {"sender": "RA <ra@example.ir>"},
        {"sender": "ra@example.ir\r\nBcc: x@y"},
        {"recipients": [{"role": "vetting_officer", "address": "x"}]},
        {"recipients": [{"role": "Vetting", "address": "x@y"}]},
        {"language": "de"},
        {"webhooks": {"desk": {"url": "http://desk.example/"}}},
        {"webhooks": {"desk": {"url": "https://user:word@desk.example/"}}},
        {"webhooks": {"desk": {"url": "https:///path"}}},
        {"webhooks": {"desk": {"url": "https://desk.example/#x"}}},
        {"webhooks": {"desk": {"url": "https://desk.example/a b"}}},
        {"webhooks": {"desk": {"url": "https://desk.example/\r\nX: y"}}},
        {"webhooks": {"desk": {"url": "https://desk.example:99999/"}}},
        {"webhooks": {"desk": {"url": "https://desk\\@example/"}}},
        {"webhooks": {"Desk!": {"url": "https://desk.example/"}}},
    ],
)
def test_what_would_leak_or_mean_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NoticesSettings.model_validate(wrong)
