"""A service that cannot listen says so before it opens anything, tokens and their PINs above all."""

from __future__ import annotations

import socket

import pytest
import typer

from cli.services import require_free


def test_a_port_in_use_ends_the_command_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(typer.Exit) as ended:
            require_free(f"https://127.0.0.1:{port}")
        assert ended.value.exit_code == 1
        said = capsys.readouterr().err
        assert f"127.0.0.1:{port}" in said
        assert "in use" in said
    require_free(f"https://127.0.0.1:{port}")
