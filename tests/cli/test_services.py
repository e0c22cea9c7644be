"""What keeps a service from starting is said in one sentence, before it opens tokens and needs their PINs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import typer

from cli.services import lacking, require_free
from cli.state import Installation
from runtime.settings import Home
from tests.cli.test_main import kwbp
from tests.support.ports import free_port


def test_a_port_in_use_ends_the_command_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(typer.Exit) as ended:
            require_free(f"https://127.0.0.1:{port}")
        assert ended.value.exit_code == 1
        said = capsys.readouterr().err
        assert f"127.0.0.1:{port}" in said
        assert "in use" in said
    require_free(f"https://127.0.0.1:{port}")


def test_the_switch_waits_for_the_zone_keys(tmp_path: Path) -> None:
    assert kwbp("init", "--base-port", "21100", home=tmp_path).returncode == 0
    found = Installation(Home(tmp_path))
    assert lacking(found, "switch") == "zone keys: 'kwbp ceremony zone-keys'"
    assert lacking(found, "hsm") is None
    alone = kwbp("serve", "switch", home=tmp_path)
    assert alone.returncode == 1
    assert "the zone-key ceremony makes it" in alone.stderr
    assert "Traceback" not in alone.stderr
    for name in ("pin-component-1", "pin-component-2", "mac-component-1", "mac-component-2"):
        (tmp_path / "secrets" / f"zone-{name}").touch()
    assert lacking(found, "switch") is None


def test_a_merchant_server_waits_for_its_certificates(tmp_path: Path) -> None:
    assert kwbp("init", "--base-port", "21200", home=tmp_path).returncode == 0
    settings = ("--merchant-id", "M-1", "--shop", "Bookshop", "--terminal", "T0000001", "--key", "bookshop")
    assert kwbp("merchant", "configure", "bookshop", *settings, "--port", "21290", home=tmp_path).returncode == 0
    found = Installation(Home(tmp_path))
    assert lacking(found, "merchant-bookshop") == "certificates: 'kwbp merchant collect bookshop APPLICATION'"
    (tmp_path / "tls" / "merchant-bookshop.pem").touch()
    assert lacking(found, "merchant-bookshop") is None
