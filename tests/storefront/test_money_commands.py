"""What `kwbp merchant refund` and its like say, to people of both languages and to programs, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storefront.test_money_shop import buy
from tests.support.payment_site import wait_for
from tests.support.ready_kwbp import ready_kwbp
from tests.support.shop_front import Customer, Front, unreachable

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kwbp(front: Front) -> Iterator[Run]:
    """A command of `kwbp merchant` about this merchant."""
    home = front.home()
    with ready_kwbp() as commands:

        def run(*words: str, language: str = "en") -> subprocess.CompletedProcess[str]:
            environment = {**os.environ, "KWBP_HOME": str(home.path), "KWBP_LANG": language, "COLUMNS": "160"}
            return subprocess.run(
                [str(commands / "kwbp"), *words], env=environment, capture_output=True, text=True, check=False
            )

        yield run


def test_what_each_outcome_says(front: Front, customer: Customer, purchases: Path, kwbp: Run) -> None:
    name = front.name
    front.rules["money_patience"] = 4.0
    with front.serving():
        xid = buy(front, customer, purchases)
        done = kwbp("merchant", "refund", name, xid, "250000", language="fa")
        assert (done.returncode, done.stderr) == (0, "")
        assert "به خریدار برگردانده شد" in done.stdout
        assert "بخشی برگشته" in done.stdout
        refused = kwbp("merchant", "refund", name, xid, "9000000", language="fa")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "مبلغ باید از" in refused.stderr
        assert "(H9)" in refused.stderr
        document: dict[str, Any] = json.loads(kwbp("--json", "merchant", "money", name, xid).stdout)
        assert document["standing"]["refunded"] == 250_000
        front.line.always = unreachable
        left_open = kwbp("merchant", "refund", name, xid, "1000", "--wish", "slow")
        assert left_open.returncode == 3
        assert "nobody knows yet whether it was done" in left_open.stderr
        assert "ask again with --wish slow" in left_open.stderr
        front.line.always = None
        wait_for(lambda: kwbp("merchant", "refund", name, xid, "1000", "--wish", "slow").returncode == 0)
        listed = kwbp("merchant", "money", name, xid)
        assert "slow" in listed.stdout
        assert "partly-refunded" in listed.stdout
        for words, said in (
            (("merchant", "batch", "close", name), "no batch is open: open one with 'kwbp merchant batch open'"),
            (("merchant", "money", name, "0" * 40), "this merchant has no order of that XID"),
            (("merchant", "money", "nobody", xid), "there is no merchant server nobody"),
            (("merchant", "advice", name, "2999-01-01"), "there is no advice of 2999-01-01 yet"),
        ):
            answer = kwbp(*words)
            assert answer.returncode == 1, answer
            assert said in answer.stderr


def test_a_shop_that_does_not_answer_leaves_the_wish_open(kwbp: Run, front: Front) -> None:
    silent = kwbp("merchant", "refund", front.name, "0" * 40, "--wish", "return-7")
    assert silent.returncode == 3
    assert "nobody knows whether it took this wish" in silent.stderr
    assert "--wish return-7" in silent.stderr
