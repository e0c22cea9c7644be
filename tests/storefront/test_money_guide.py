"""docs/merchants.md: every command of the guide does what it says, and both languages have the same commands.

A block is run as it stands, against a merchant server that is a process, a gateway and a bank. `NAME=…` is what the
reader fills in: here it comes from the table below.
"""

from __future__ import annotations

import os
import re
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pytest

from runtime.client import http_client
from shetab.jalali import IRAN_STANDARD_TIME
from tests.storefront.test_money_shop import buy, hold
from tests.support.payment_site import Site, now, wait_for
from tests.support.pki_factory import IBAN
from tests.support.ready_kwbp import ready_kwbp
from tests.support.shop_front import Customer, Front

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(r"^```(sh[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILLED_IN: Final = re.compile(r"^([A-Z]+)=…$", re.MULTILINE)
NAMES: Final = {"SHOP", "SALE", "HELD", "CAPTURE", "DAY"}
SHELL: Final = r"""
set -eu
last_capture() { kwbp --json merchant money "$SHOP" "$HELD" | python -c '
import json, sys
print(json.load(sys.stdin)["standing"]["captures"][-1]["id"][:12])'; }
must_refuse() { "$@" && code=0 || code=$?; [ $code = 1 ] || { echo "NOT REFUSED: $*"; exit 1; }; }
"""


def blocks(guide: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "docs" / guide).read_text(encoding="utf-8"))


def script(part: list[tuple[str, str]]) -> str:
    """Blocks as one script that tells each command before it is run."""
    lines = [SHELL]
    for kind, block in part:
        for line in block.splitlines():
            filled = FILLED_IN.fullmatch(line)
            if filled is not None:
                lines += ["CAPTURE=$(last_capture)"] if filled[1] == "CAPTURE" else []
                continue
            if "batch close" in line:
                lines.append("sleep 1.1")  # what happened in this very second is in the next batch
            quoted = line.replace("'", "'\\''")
            lines += [f"printf '+ %s\\n' '{quoted}'", f"must_refuse {line}" if "refused" in kind else line]
    return "\n".join(lines)


def run(part: list[tuple[str, str]], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", script(part)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_both_languages_have_the_same_commands() -> None:
    english = blocks("merchants.md")
    assert blocks("merchants.fa.md") == english
    assert {name for _kind, block in english for name in FILLED_IN.findall(block)} == NAMES


@pytest.mark.slow
def test_every_command_of_the_guide_works(
    site: Site, gateway: str, front: Front, customer: Customer, purchases: Path, tmp_path: Path
) -> None:
    front.register(iban=IBAN)
    day: date = now().astimezone(IRAN_STANDARD_TIME).date() - timedelta(days=1)
    english = blocks("merchants.md")
    last = next(number for number, (_kind, block) in enumerate(english) if "DAY=…" in block)
    home = front.home()
    environment = {
        **os.environ,
        "KWBP_HOME": str(home.path),
        "KWBP_LANG": "en",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "160",
        "SHOP": front.name,
        "DAY": day.isoformat(),
    }
    site.switch.admin.cut_over(day)  # the network still counts in yesterday
    try:
        with front.process(), ready_kwbp() as commands:
            environment["PATH"] = f"{commands}:{environment['PATH']}"
            sale, held = buy(front, customer, purchases), hold(front, customer, purchases)
            environment |= {"SALE": sale, "HELD": held}
            told = run(english[:last], environment, tmp_path)
            for said in (
                "captured: 500,000 rial",
                "the amount must be from 1 to 3,750,000 rial",
                "given back to the buyer: 250,000 rial",
                "the books agree",
                "what is settled is not taken back but refunded",
            ):
                assert said in told
            site.switch.admin.cut_over(None)
            wait_for(lambda: _is_advised(front, gateway, day))
            told = run(english[last:], environment, tmp_path)
            assert "the advice agrees with the own book" in told
            assert "given back" in told
    finally:
        site.switch.admin.cut_over(None)


def _is_advised(front: Front, gateway: str, day: date) -> bool:
    with http_client(front.tls, gateway) as client:
        return client.get(f"/v1/settlement-advices/{day.isoformat()}").status_code == 200
