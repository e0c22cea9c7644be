"""`scripts/bench`: what it says, what it refuses, and one short run of the real thing. No figure is judged here."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str, folder: Path | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KWBP_")}
    if folder is not None:
        environment["KWBP_BENCH_DIR"] = str(folder)
    return subprocess.run(
        [ROOT / "scripts" / "bench", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_payments_prints_one_object_with_the_rate_the_bound_and_their_ratio(tmp_path: Path) -> None:
    done = bench("payments", "--json", "--seconds", "6", "--concurrency", "4", folder=tmp_path / "bench", timeout=1100)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document.keys() == {"name", "load", "results"}
    assert document["name"] == "payments"
    assert document["load"] >= 0
    results = document["results"]
    assert all(isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in results.values())
    assert {"purchases_per_s", "token_bound_per_s", "ratio", "latency_p50_ms", "latency_p99_ms"} <= results.keys()
    assert results["ratio"] == pytest.approx(results["purchases_per_s"] / results["token_bound_per_s"], rel=0.01)
    assert results["concurrency"] == 4
    signatures = {name: round(value) for name, value in results.items() if name.startswith("operations_sign_")}
    # Invoice, AuthReq, AuthAck and Receipt by the merchant's key; AuthRes by the gateway's, and a time-stamp over it.
    assert signatures.pop("operations_sign_timestamp", 1) == 1  # obtained behind the payments, perhaps after the look
    assert signatures == {"operations_sign_merchant": 4, "operations_sign_gateway": 1}
    assert round(results["operations_unwrap"]) == 1
