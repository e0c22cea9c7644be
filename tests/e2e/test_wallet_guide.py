"""docs/wallet.md: every command of the guide does what it says; three actions to sign; what the wallet leaves behind.

A block of the guide is run as it stands. `NAME=…` is what the reader fills in: here it comes from the table below. What
a person types of their card goes through standard input here, and their consent is `--yes`, but for the one purchase at
a terminal, which is counted.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest

from runtime.secrets import Secret
from storefront.wallet import container
from tests.e2e.conftest import ROOT, Shell
from tests.support.canaries import traces

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BLOCK: Final = re.compile(r"^```(sh[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILLED_IN: Final = re.compile(r"^([A-Z]+)=…$", re.MULTILINE)
FILLS: Final = {"XID": "newest_purchase", "TOKEN": "token"}
SHELL: Final = r"""
set -eu
kwbp() { # as a person who types what they are asked for
  local add= card= all="$*"
  case "$1 $2" in
  "wallet enrol") card=$3 ;;
  "wallet buy") card=${all##*--card } card=${card%% *} add="--yes --card-from-stdin" ;;
  "wallet change-passphrase") add="--new-passphrase-file $SECRETS/new-passphrase" ;;
  "wallet export" | "wallet import") add="--export-passphrase-file $SECRETS/carried" ;;
  esac
  if [ "$2" = add-card ]; then card=$3; fi
  if [ -n "$card" ]; then card="$SECRETS/card-$card"; fi
  command kwbp "$@" $add <"${card:-/dev/null}" || return
  if [ "$2" = change-passphrase ]; then cp "$SECRETS/new-passphrase" "$KWBP_WALLET_PASSPHRASE_FILE"; fi
}
newest_purchase() { command kwbp --json wallet history | python -c '
import json, sys
print(json.load(sys.stdin)[0]["xid"])'; }
token() { # a new token, with a PIN that its holder keeps in a file of their own
  mkdir -p "${SOFTHSM2_CONF%/*}/tokens"
  printf 'directories.tokendir = %s\n' "${SOFTHSM2_CONF%/*}/tokens" >"$SOFTHSM2_CONF"
  softhsm2-util --init-token --free --label safe --so-pin so-pin-of-the-card --pin "$(cat "$SECRETS/pin")" >/dev/null
  echo "pkcs11:token=safe?pin-source=file:$SECRETS/pin"
}
must_fail() { if "$@"; then echo "NOT REFUSED: $*"; exit 1; fi; }
"""


def blocks(guide: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "docs" / guide).read_text(encoding="utf-8"))


def script() -> str:
    """All blocks as one script that tells each command before it is run."""
    lines = [SHELL]
    for kind, block in blocks("wallet.md"):
        for line in block.splitlines():
            filled = FILLED_IN.fullmatch(line)
            if filled is not None:
                lines.append(f"{filled[1]}=$({FILLS[filled[1]]})")
                continue
            quoted = line.replace("'", "'\\''")
            lines += [f"printf '+ %s\\n' '{quoted}'", f"must_fail {line}" if "refused" in kind else line]
    return "\n".join(lines)


def test_both_languages_have_the_same_commands() -> None:
    english = blocks("wallet.md")
    assert blocks("wallet.fa.md") == english
    assert {name for _kind, block in english for name in FILLED_IN.findall(block)} == FILLS.keys()


def secret(folder: Path, name: str, content: str) -> None:
    path = folder / name
    path.write_text(content)
    path.chmod(0o600)


def issued(kwbp: Shell) -> dict[str, str]:
    account = kwbp("bank", "open-account", "--holder", "Buyer of the guide", "--balance", "50000000")
    card: dict[str, str] = kwbp("bank", "issue-card", "--iban", account["iban"])
    return card


class Reader:
    """A reader of the guide: their cards, their secrets, their wallet after the last command."""

    def __init__(self, kwbp: Shell, folder: Path) -> None:
        self.folder, self.secrets = folder, folder / "secrets"
        self.secrets.mkdir(mode=0o700)
        self.cards = {name: issued(kwbp) for name in ("everyday", "safe")}
        for name, card in self.cards.items():
            secret(self.secrets, f"card-{name}", json.dumps(card))
        for name, text in (
            ("wallet", "correct horse"),
            ("new-passphrase", "battery staple"),
            ("carried", "in a drawer"),
        ):
            secret(self.secrets, name, text)
        secret(self.secrets, "pin", "73519024")
        self.environment = kwbp.demo.environment | {
            "SECRETS": str(self.secrets),
            "KWBP_WALLET": str(folder / "wallet"),
            "KWBP_WALLET_PASSPHRASE_FILE": str(self.secrets / "wallet"),
            "SOFTHSM2_CONF": str(folder / "card" / "softhsm2.conf"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            ["bash", "-c", script()],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.code, self.said = done.returncode, done.stdout


@pytest.fixture(scope="module")
def reader(kwbp: Shell, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(kwbp, tmp_path_factory.mktemp("guide"))


def test_every_command_of_the_guide_works(reader: Reader) -> None:
    assert reader.code == 0, reader.said[-3000:]
    for said in (
        "What you sign",
        "آنچه امضا می‌کنید",
        "What you signed",
        "the wallet has a new passphrase",
        "2 cards and 2 purchases came in",
        "the key of the card safe is not in the file",
        "its key stays in the token",
        "this root is not believed",
    ):
        assert said in reader.said, said
    assert (reader.folder / "bundle" / "verify.sh").exists()
    assert evidence(reader.folder / "elsewhere") == evidence(reader.folder / "wallet")


def evidence(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in (folder / "purchases").rglob("*.*")}


def test_no_file_of_the_wallet_holds_card_data_and_the_sealed_one_no_more_than_it_needs(reader: Reader) -> None:
    """Every file that the guide left: the wallet, its evidence, its copies, the bundle. PIN2 and CVV2 are nowhere."""
    kept = [
        path
        for path in reader.folder.rglob("*")
        if path.is_file()
        and not path.is_relative_to(reader.secrets)
        and not path.is_relative_to(reader.folder / "card")
    ]
    assert {"wallet.kwbp", "my.wallet", "purchase.json", "pi-envelope.p7m"} <= {path.name for path in kept}
    for card in reader.cards.values():
        canaries = traces(pan=card["pan"], expiry=card["expiry"], cvv2=card["cvv2"], pin2=card["pin2"])
        for path in kept:
            content = path.read_bytes()
            assert not canaries.search(content), path
            assert card["pan"].encode() not in content, path
    opened = _opened(reader, "wallet/wallet.kwbp", "battery staple", container.WALLET)
    carried = _opened(reader, "my.wallet", "in a drawer", container.EXPORT)
    elsewhere = _opened(reader, "elsewhere/wallet.kwbp", "battery staple", container.WALLET)
    everyday, safe = reader.cards["everyday"], reader.cards["safe"]
    assert set(opened["cards"]) == {"main"}  # the other one was removed, and everything of it
    assert opened["cards"]["main"]["pan"] == everyday["pan"]
    for document in (opened, carried, elsewhere):
        for entry in document["cards"].values():
            assert not {"pin2", "cvv2", "registration", "enrolment"} & entry.keys()
        text = json.dumps({**document, "purchases": None})
        assert f'"{everyday["pin2"]}"' not in text
        assert f'"{everyday["cvv2"]}"' not in text
    assert safe["pan"] not in json.dumps(opened)
    assert "key" not in carried["cards"]["safe"]
    assert "key" in carried["cards"]["everyday"]


def _opened(reader: Reader, name: str, passphrase: str, format_: str) -> dict[str, Any]:
    return container.unseal((reader.folder / name).read_bytes(), Secret(passphrase.encode()), format_)


class Terminal:
    """A person at a terminal: waits for a question, types an answer, and counts."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        leader, follower = pty.openpty()
        self.actions = 1  # the command
        self.seen = ""
        self._leader = leader
        self.process = subprocess.Popen(
            arguments,
            env=environment,
            cwd=folder,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)

    def read_until(self, text: str) -> str:
        begin = len(self.seen)
        end = time.monotonic() + 120
        while text not in self.seen[begin:]:
            assert time.monotonic() < end, self.seen
            ready, _, _ = select.select([self._leader], [], [], 1)
            if ready:
                try:
                    self.seen += os.read(self._leader, 65536).decode(errors="replace")
                except OSError:  # the command has ended
                    break
        assert text in self.seen[begin:], self.seen
        return self.seen[begin:]

    def type(self, text: str) -> None:
        self.actions += 1
        os.write(self._leader, text.encode() + b"\n")

    def end(self) -> int:
        self.read_rest()
        os.close(self._leader)
        return self.process.wait(60)

    def read_rest(self) -> None:
        while True:
            try:
                content = os.read(self._leader, 65536)
            except OSError:
                return
            if not content:
                return
            self.seen += content.decode(errors="replace")


def at_terminal(reader: Reader, *options: str, language: str = "en") -> Terminal:
    environment = {name: value for name, value in reader.environment.items() if name != "KWBP_WALLET_PASSPHRASE_FILE"}
    buy = [
        "kwbp",
        "wallet",
        "buy",
        "golestan",
        "--shop",
        "bookshop",
        "--card",
        "main",
        "--language",
        language,
        *options,
    ]
    return Terminal(buy, environment, reader.folder)


def test_from_pay_to_signed_a_person_does_three_things(reader: Reader) -> None:
    """The command, the passphrase, PIN2 and CVV2 below what will be signed; nothing that was typed is shown."""
    card, screen = reader.cards["everyday"], at_terminal(reader)
    screen.read_until("Passphrase of the wallet: ")
    screen.type("battery staple")
    shown = screen.read_until("(Enter alone: cancel): ")
    assert "What you sign" in shown
    assert "1,250,000 rial" in shown
    screen.type(f"{card['pin2']} {card['cvv2']}")
    assert screen.end() == 0, screen.seen
    assert screen.actions == 3
    assert "Paid." in screen.seen
    for typed in ("battery staple", card["pin2"] + " ", card["pan"]):
        assert typed not in screen.seen


def test_whoever_does_not_consent_signs_nothing(reader: Reader) -> None:
    before = sorted((reader.folder / "wallet" / "purchases").iterdir())
    screen = at_terminal(reader, language="fa")
    screen.read_until("Passphrase of the wallet: ")
    screen.type("battery staple")
    assert "ریال" in screen.read_until("انصراف")
    screen.type("")
    assert screen.end() == 1
    assert "چیزی امضا نشد" in screen.seen
    assert sorted((reader.folder / "wallet" / "purchases").iterdir()) == before


def test_a_wallet_that_waits_too_long_locks_itself(reader: Reader) -> None:
    before = sorted((reader.folder / "wallet" / "purchases").iterdir())
    screen = at_terminal(reader, "--lock-after", "0.5")
    screen.read_until("Passphrase of the wallet: ")
    screen.type("battery staple")
    assert screen.end() == 1
    assert "the wallet locked itself" in screen.seen
    assert sorted((reader.folder / "wallet" / "purchases").iterdir()) == before
