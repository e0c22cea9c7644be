"""docs/officers.md: every command of the guide does what it says, and both languages have the same commands.

A block of the guide is run as it stands. `NAME=…` is what the reader fills in: here it comes from the table below.
Whoever acts is asked for a passphrase and whether they agree: here `kwbp` is a function that answers both.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import ROOT, Shell
from tests.support.documents import pdf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BLOCK: Final = re.compile(r"^```(sh[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILLED_IN: Final = re.compile(r"^([A-Z]+)=…$", re.MULTILINE)
FILLS: Final = {
    "PORT": "free_port",
    "CASE": "newest merchant",
    "OTHER": "newest merchant",
    "THIRD": "newest merchant",
    "FOURTH": "newest merchant",
    "CARD": "card vetting-officer-3",
    "NEXT": "newest merchant",
    "JOINING": "newest officer",
    "SERIAL": "serial_of",
}
SHELL: Final = r"""
set -eu
kwbp() { # as a person who gives their passphrase, and agrees to what they are shown
  local as= add= previous= each
  for each in "$@"; do
    [ "$previous" = --as ] && as=$each
    previous=$each
  done
  case "$1 $2" in
  "officer key") add="--pin-file $SECRETS/$3" ;;
  "ra vet" | "ra approve" | "ra reject" | "ra revoke" | "ra suspend" | "ra reinstate") add=--yes ;;
  "officer new-key")
    as=$3
    command kwbp officer new-passphrase "$SECRETS/$3" >/dev/null ;;
  esac
  command kwbp "$@" $add ${as:+--passphrase-file "$SECRETS/$as"}
}
newest() { command kwbp --json ra list --all --class "$1" --sort newest --limit 1 | python -c '
import json, sys
print(json.load(sys.stdin)[0]["id"])'; }
serial_of() { command kwbp --json ra show "$CASE" | python -c '
import json, sys
print(next(each["serial"] for each in json.load(sys.stdin)["certificates"] if each["purpose"] == "signing"))'; }
free_port() { python -c '
import random, socket
while True:
    port = random.randrange(10000, 32000)  # below those that connections are given by themselves
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break'; }
card() { # a new token, with a PIN that its holder knows
  mkdir -p "${SOFTHSM2_CONF%/*}/tokens"
  printf 'directories.tokendir = %s\n' "${SOFTHSM2_CONF%/*}/tokens" >"$SOFTHSM2_CONF"
  command kwbp officer new-passphrase "$SECRETS/$1" >/dev/null
  softhsm2-util --init-token --free --label card --so-pin so-pin-of-the-card --pin "$(cat "$SECRETS/$1")" >/dev/null
  echo pkcs11:token=card
}
must_fail() { if "$@"; then echo "NOT REFUSED: $*"; exit 1; fi; }
"""


def blocks(guide: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "docs" / guide).read_text(encoding="utf-8"))


def script() -> str:
    """All blocks as one script that tells each command before it is run."""
    lines = [SHELL]
    for kind, block in blocks("officers.md"):
        for line in block.splitlines():
            filled = FILLED_IN.fullmatch(line)
            if filled is not None:
                lines.append(f"{filled[1]}=$({FILLS[filled[1]]})")
                continue
            quoted = line.replace("'", "'\\''")
            lines += [f"printf '+ %s\\n' '{quoted}'", f"must_fail {line}" if "refused" in kind else line]
    return "\n".join(lines)


def test_both_languages_have_the_same_commands() -> None:
    english = blocks("officers.md")
    assert blocks("officers.fa.md") == english
    assert {name for _kind, block in english for name in FILLED_IN.findall(block)} == FILLS.keys()


def test_every_command_of_the_guide_works(kwbp: Shell, tmp_path: Path) -> None:
    (tmp_path / "contract.pdf").write_bytes(pdf())
    environment = kwbp.demo.environment | {
        "SECRETS": str(kwbp.demo.folder / "secrets"),
        "SOFTHSM2_CONF": str(tmp_path / "card-of-an-officer" / "softhsm2.conf"),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "case").is_dir()
    for said in ("may: vetting-officer-1", "replaced by", "the merchant has no second shop", "REJECTED", "superseded"):
        assert said in done.stdout
