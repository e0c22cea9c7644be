"""`scripts/bench`: what it says and what it refuses. Payments are measured on the demo's installation (`tests/e2e`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KWBP_")}
    command = [str(ROOT / "scripts" / "bench"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_benchmark_and_option() -> None:
    done = bench("--help")
    assert done.returncode == 0
    for word in ("payments", "--json", "--seconds", "--concurrency"):
        assert word in done.stdout


def test_without_a_name_it_shows_how_to_be_called() -> None:
    done = bench()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: scripts/bench NAME" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-thing"], "there is no benchmark 'no-such-thing'"),
        (["../demo"], "there is no benchmark '../demo'"),
        (["payments", "--seconds", "soon"], "--seconds wants a whole number"),
        (["payments", "--seconds"], "--seconds wants a whole number"),
        (["payments", "--concurrency", "0"], "--concurrency wants a whole number"),
        (["payments", "payments"], "one benchmark at a time"),
        (["payments", "--fast"], "there is no option --fast"),
    ],
)
def test_what_it_does_not_know_is_refused_before_anything_runs(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
