"""Settings of connectors: what cannot work is refused when the gateway starts, and names no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.connectors.building import hosts
from gateway.errors import RoutingError
from runtime.line_settings import HttpHostSettings
from runtime.settings import Home, Settings


@pytest.mark.parametrize(
    "url",
    [
        "http://authoriser.example",
        "https://",
        "https:// authoriser.example",
        "https://authoriser.example:99999",
        "https://authoriser.example/api",
        "https://authoriser.example?key=1",
        "https://authoriser.example#here",
        "https://name:word@authoriser.example",
    ],
)
def test_an_authoriser_has_an_https_address_and_nothing_beside(url: str) -> None:
    """A path would not be asked for, and a password would be shown with the lines."""
    with pytest.raises(ValidationError) as refused:
        HttpHostSettings.model_validate({"kind": "http", "url": url})
    assert "word" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://authoriser.example", "https://10.0.0.7:8443", "https://[::1]:8443/"])
def test_an_https_address_is_one(url: str) -> None:
    assert HttpHostSettings.model_validate({"kind": "http", "url": url}).url == url.rstrip("/")


def test_a_name_that_would_not_be_looked_for_is_refused() -> None:
    with pytest.raises(ValidationError, match="name"):
        HttpHostSettings.model_validate({"kind": "http", "url": "https://a.example", "tls": {"name": "b.example"}})


@pytest.mark.parametrize(
    "host",
    [
        {"kind": "iso8583", "addresses": ["127.0.0.1:1"], "dialect": "no-such-dialect"},
        {"kind": "iso8583", "addresses": ["127.0.0.1:1"], "tls": {"trust_anchor": "not-there.pem"}},
        {"kind": "http", "url": "https://a.example", "tls": {"trust_anchor": "not-there.pem"}},
    ],
    ids=["dialect", "certificate of a line", "certificate of an authoriser"],
)
def test_what_is_not_there_is_said_before_the_gateway_takes_an_order(tmp_path: Path, host: dict[str, Any]) -> None:
    settings = Settings.model_validate({"gateway": {"connectors": {"other": host}}})
    with pytest.raises(RoutingError, match="other"):
        hosts(Home(tmp_path), settings)
