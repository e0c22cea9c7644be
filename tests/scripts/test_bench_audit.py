"""The parts of `scripts/bench audit`, on a small log: a million entries take a minute. No figure is judged here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit import read, verify
from scripts.benchmarks.audit import appended, entry, submitted, write


@pytest.mark.parametrize("measure", [submitted, appended])
def test_every_entry_that_was_counted_is_in_a_log_that_is_whole(
    tmp_path: Path, measure: Callable[[Path, float, int], float]
) -> None:
    path = tmp_path / "log.jsonl"
    assert measure(path, 0.2, 2) > 0
    assert verify(path).head.size > 0


def test_the_log_to_verify_has_entries_like_those_of_the_hsm_service(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", 300)
    assert [found.entry for found in read(tmp_path / "log.jsonl")] == [entry(number) for number in range(300)]
    assert verify(tmp_path / "log.jsonl").head.size == 300
