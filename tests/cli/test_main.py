"""The `kwbp` command: what it offers, what it loads, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import COMMANDS, build


def kwbp(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", "--home", str(home), *arguments], capture_output=True, text=True, check=False
    )


def test_help_shows_every_command_and_the_way_to_a_new_installation() -> None:
    shown = CliRunner().invoke(build([]), ["--help"]).output
    assert all(f" {name} " in shown for name in COMMANDS)
    assert "init" in shown.split("Options")[0]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(build([name]), [name, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("command", ["ra", "wallet", "gateway", "evidence", "officer"])
def test_who_only_asks_loads_no_database_and_no_web_server(command: str) -> None:
    script = f"import sys; from cli.main import build; build([{command!r}]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not {"sqlalchemy", "fastapi", "uvicorn", "pkcs11"} & set(loaded.split())


def test_the_installed_command_collects_garbage_when_it_runs() -> None:
    script = """
import gc, sys
sys.argv = ["kwbp", "--help"]
from cli import start
try:
    start.main()
except SystemExit:
    pass
assert gc.isenabled() and gc.get_freeze_count() and gc.get_threshold()[0] > 700
"""
    subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)


def test_a_command_loads_no_other() -> None:
    script = "import sys; from cli.main import build; build(['audit']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {"cli.audit", "cli.wallet", "cli.services"} & set(loaded.split()) == {"cli.audit"}


def test_without_an_installation_the_next_step_is_named(tmp_path: Path) -> None:
    result = kwbp("status", home=tmp_path / "none")
    assert result.returncode == 1
    assert "is not an installation" in result.stderr
    assert "kwbp init" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_program_gets_the_failure_as_json(tmp_path: Path) -> None:
    result = kwbp("--json", "status", home=tmp_path / "none")
    assert result.returncode == 1
    assert json.loads(result.stdout)["hint"] == "make one with 'kwbp init'"


@pytest.mark.parametrize("arguments", [("--json", "token", "list"), ("token", "list", "--json")])
def test_json_may_stand_anywhere(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = kwbp(*arguments, home=tmp_path / "none")
    assert json.loads(result.stdout)["hint"] == "make one with 'kwbp init'"


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "kwbp.toml").write_text("[gateway]\nanswer_timeout = -1\n")
    result = kwbp("status", home=tmp_path)
    assert result.returncode == 1
    assert "gateway.answer_timeout" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_installation_is_made_once_and_left_alone_afterwards(tmp_path: Path) -> None:
    first = kwbp("--json", "init", "--base-port", "21000", home=tmp_path)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["tokens_made"] == ["root", "ca", "gateway", "merchants", "standby"]
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "tokens" not in path.parts}
    second = kwbp("--json", "init", "--base-port", "22000", home=tmp_path)
    assert json.loads(second.stdout)["tokens_made"] == []
    assert {path: path.read_bytes() for path in files} == files


def test_a_ceremony_without_its_officers_touches_nothing(tmp_path: Path) -> None:
    kwbp("init", home=tmp_path)
    result = kwbp("ceremony", "run", home=tmp_path)
    assert result.returncode == 1
    assert "officer/security-officer-1" in result.stderr
    assert list((tmp_path / "pki").iterdir()) == []
