"""What lies on the disk after a run: a log that was cut is found, and card data wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.journal import Journal
from audit.verify import head_path
from shetab.types import Cvv2, Expiry, Pan, Pin
from switch.records import IssuedCard
from tests.faults.payments.reading import CardData, broken_logs

CARD = IssuedCard(
    card_id="00",
    iban="IR570560123456789012345678",
    masked_pan="603799******7893",
    pan=Pan.parse("6037991234567893"),
    expiry=Expiry.parse("0512"),
    cvv2=Cvv2.parse("407"),
    pin2=Pin.parse("84619273"),
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.jsonl"
    with Journal.open(path) as journal:
        for number in range(5):
            journal.append({"event": "refused", "number": number})
    return path


def test_a_whole_log_and_one_that_was_never_begun_are_left_alone(log: Path, tmp_path: Path) -> None:
    assert list(broken_logs([log, tmp_path / "hsm.jsonl"], tmp_path)) == []


def test_a_log_whose_end_was_cut_off_is_found(log: Path, tmp_path: Path) -> None:
    whole = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(whole[:-1]))
    assert "cut-tail" in "".join(broken_logs([log], tmp_path))


def test_a_log_with_another_entry_is_found(log: Path, tmp_path: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b'"number":2', b'"number":7'))
    assert "gateway.jsonl" in "".join(broken_logs([log], tmp_path))


def test_a_log_that_is_gone_is_found(log: Path, tmp_path: Path) -> None:
    assert head_path(log).exists()
    log.unlink()
    assert "journal-missing" in "".join(broken_logs([log], tmp_path))


@pytest.mark.parametrize(
    "leak",
    [b"pan 6037991234567893.", b'{"pin": "84619273"}', b'{"cvv2": "407", "a": 1}', b"(7, '0512', '407')"],
)
def test_card_data_are_found_in_the_middle_of_anything(leak: bytes) -> None:
    assert CardData.of(CARD).find(b"1" * 500 + b" x " + leak + b" y " * 200) is not None


@pytest.mark.parametrize(
    "other", [b"16037991234567893", b"846192735", b"port 407 of that machine or another one, at 0512"]
)
def test_digits_that_are_something_else_are_left_alone(other: bytes) -> None:
    assert CardData.of(CARD).find(b"x" * 100 + other + b"x" * 100) is None
