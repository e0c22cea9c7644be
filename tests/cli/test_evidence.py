"""Judging a bundle runs our script, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from cli.evidence import judge


def test_a_script_that_is_not_ours_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "verify.sh").write_text(f"touch {tmp_path}/ran\n")
    with pytest.raises(typer.Exit):
        judge(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert "is not the judge of this release" in capsys.readouterr().err


def test_a_bundle_without_a_script_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        judge(tmp_path)
