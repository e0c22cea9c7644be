"""A PIN in shares: any M custodians restore it, and nothing that is not exactly right ever reaches a token."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import generate_mnemonics

from hsm_service.pin_shares import PinShare, ShareError, ShareSet, join, read_share, record_file, split
from hsm_service.pin_sources import PinFile, PinShares, pin_source
from hsm_service.token_layout import pin_file
from hsm_service.token_source import token_source
from runtime.secrets import Secret, SecretFileError
from runtime.settings import Settings, SettingsError
from tests.support.softhsm import provisioned_home

PIN = Secret(b"8201004477123456")
CUSTODIANS = ("Ali", "Maryam", "Reza")
SET, SHARES = split("root", PIN, 2, CUSTODIANS)
OTHER = split("root", PIN, 2, CUSTODIANS)[1]


def spoken(share: PinShare) -> str:
    return share.words.reveal().decode()


@pytest.mark.parametrize("pair", list(combinations(SHARES, 2)))
def test_any_two_of_three_restore_the_pin(pair: tuple[PinShare, PinShare]) -> None:
    assert join("root", pair, SET) == PIN
    assert join("root", pair[::-1]) == PIN


def test_a_pin_of_sixteen_digits_is_twenty_words_a_share() -> None:
    assert [len(spoken(share).split()) for share in SHARES] == [20, 20, 20]
    assert [share.number for share in SHARES] == [1, 2, 3]
    assert {share.set_number for share in SHARES} == {SET.number}


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.text("0123456789", min_size=1, max_size=63), st.text(min_size=1, max_size=15)), st.data())
def test_every_pin_comes_back(pin: str, data: st.DataObject) -> None:
    needed = data.draw(st.integers(2, 4))
    _set, shares = split("ca", Secret(pin.encode()), needed, [f"c{n}" for n in range(needed + 1)])
    drawn = data.draw(st.permutations(shares))[:needed]
    assert join("ca", [read_share(spoken(share)) for share in drawn]) == Secret(pin.encode())


def test_words_may_be_shortened_to_four_letters_and_shouted() -> None:
    short = " ".join(word[:4].upper() for word in spoken(SHARES[0]).split())
    assert read_share(f"  {short}\n").words == SHARES[0].words


@pytest.mark.parametrize(
    ("needed", "custodians"),
    [(1, ["a", "b"]), (3, ["a", "b"]), (2, ["a", "a"]), (2, ["a", ""]), (2, [str(n) for n in range(17)])],
)
def test_a_split_that_protects_nothing_is_refused(needed: int, custodians: list[str]) -> None:
    with pytest.raises(ShareError):
        split("root", PIN, needed, custodians)


@pytest.mark.parametrize("pin", [b"", b"x" * 64])
def test_a_pin_that_does_not_fit_is_refused(pin: bytes) -> None:
    with pytest.raises(ShareError, match="63 bytes"):
        split("root", Secret(pin), 2, CUSTODIANS)


def test_too_few_too_many_and_twice_the_same_restore_nothing() -> None:
    one, two, three = SHARES
    for given_shares in ([], [one], [one, two, three]):
        with pytest.raises(ShareError, match="needed"):
            join("root", given_shares)
    with pytest.raises(ShareError, match="given already"):
        join("root", [one, one])


def test_shares_of_different_sets_and_of_other_tokens_restore_nothing() -> None:
    with pytest.raises(ShareError, match="is of set"):
        join("root", [SHARES[0], OTHER[1]])
    with pytest.raises(ShareError, match="is of set"):
        join("root", OTHER[:2], SET)
    with pytest.raises(ShareError, match="another token"):
        join("ca", SHARES[:2])


def test_a_share_relabelled_as_one_of_this_set_is_found_out() -> None:
    forged = PinShare(SHARES[0].set_number, 2, 2, OTHER[1].words)
    with pytest.raises(ShareError, match="different sets"):
        join("root", [SHARES[0], forged])


@pytest.mark.parametrize("needed_number", [(3, 1), (2, 4)])
def test_a_share_that_the_record_does_not_know_is_refused(needed_number: tuple[int, int]) -> None:
    needed, number = needed_number
    with pytest.raises(ShareError, match=r"is of set|no share"):
        join("root", [PinShare(SET.number, number, needed, SHARES[0].words)], SET)


def test_no_error_repeats_a_word() -> None:
    words = spoken(SHARES[0]).split()
    swapped = [words[1], words[0], *words[2:]]
    for wrong in ("", "canary", " ".join(words[:-1]), " ".join(swapped), " ".join([*words, "acid"])):
        with pytest.raises(ShareError) as refused:
            read_share(wrong)
        assert not set(str(refused.value).split()) & {*words, "canary"}
        assert refused.value.__suppress_context__ or refused.value.__context__ is None
    grouped = generate_mnemonics(2, [(2, 2), (2, 2)], b"0" * 16)
    with pytest.raises(ShareError, match="groups"):
        read_share(grouped[0][0])


def test_the_record_names_everything_but_secrets(tmp_path: Path) -> None:
    path = tmp_path / "token-root.shares"
    SET.save(path)
    assert ShareSet.load(path) == SET
    assert not {word for share in SHARES for word in spoken(share).split()} & set(path.read_text().split())
    assert path.stat().st_mode & 0o777 == 0o600
    for wrong in ("", "[]", '{"token": "root", "number": 1, "needed": 1, "custodians": ["a"]}'):
        path.write_text(wrong)
        with pytest.raises(ShareError, match="not the record"):
            ShareSet.load(path)


# -- the source --------------------------------------------------------------------------------------------------------


class Table:
    """Custodians round a table: what they say in turn, and what they are told."""

    def __init__(self, *said: str) -> None:
        self.said, self.heard, self.asked = list(said), list[str](), list[str]()

    def source(self, of: ShareSet | None = SET) -> PinShares:
        return PinShares("root", of, ask=self.ask, at_terminal=lambda: True, tell=self.heard.append)

    def ask(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.said.pop(0)


def test_custodians_are_asked_in_turn_and_known_by_their_share() -> None:
    table = Table(spoken(SHARES[2]), spoken(SHARES[0]))
    assert table.source()() == PIN
    assert table.asked == ["Share 1 of 2 of the PIN of token root: ", "Share 2 of 2 of the PIN of token root: "]
    assert table.heard == ["Share 3 of Reza is taken.", "Share 1 of Ali is taken."]


def test_without_a_record_the_first_share_says_how_many_are_needed() -> None:
    table = Table(spoken(SHARES[2]), spoken(SHARES[0]))
    assert table.source(None)() == PIN
    assert table.heard == ["Share 3 is taken.", "Share 1 is taken."]


def test_a_slip_is_told_and_asked_again() -> None:
    table = Table("acid", spoken(SHARES[1]), spoken(SHARES[1]), spoken(OTHER[0]), spoken(SHARES[0]))
    assert table.source()() == PIN
    assert len(table.heard) == 5
    assert "given already" in table.heard[2]
    assert "is of set" in table.heard[3]


def test_after_three_slips_it_is_over() -> None:
    table = Table(spoken(SHARES[0]), *["acid"] * 9)
    with pytest.raises(SecretFileError, match="nothing was tried on the token"):
        table.source()()
    assert len(table.asked) == 4


def test_shares_of_another_token_are_not_tried() -> None:
    of, shares = split("ca", PIN, 2, CUSTODIANS)
    with pytest.raises(SecretFileError, match="another token, or altered; nothing was tried"):
        Table(spoken(shares[0]), spoken(shares[1])).source(of)()


def test_shares_need_a_terminal() -> None:
    table = Table()
    source = PinShares("root", SET, ask=table.ask, at_terminal=lambda: False)
    with pytest.raises(SecretFileError, match="there is none"):
        source()
    assert table.asked == []


def test_a_uri_names_shares_and_the_source_shows_nothing() -> None:
    source = pin_source("shares:", "root")
    assert source == PinShares("root")
    assert str(source) == "shares:"
    assert spoken(SHARES[0]).split()[-1] not in repr(Table(spoken(SHARES[0])).source())
    with pytest.raises(ValueError, match="nothing stands after"):
        pin_source("shares:12", "root")


def test_shares_are_not_echoed() -> None:
    ours, theirs = pty.openpty()
    program = (
        "from hsm_service.pin_sources import PinShares; import sys; "
        f"print('OK' if PinShares('root')().reveal() == {PIN.reveal()!r} else 'other', flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    for number in (1, 2):
        while b"Share %d of" % number not in said:
            said += os.read(ours, 1000)
        os.write(ours, SHARES[number - 1].words.reveal() + b"\n")
    while b"OK" not in said and b"other" not in said:
        said += os.read(ours, 1000)
    assert child.wait(30) == 0
    os.close(ours)
    assert b"OK" in said
    for word in spoken(SHARES[0]).split()[4:] + spoken(SHARES[1]).split()[4:]:
        assert word.encode() not in said


def test_the_record_of_a_split_stands_in_for_the_pin_file(tmp_path: Path) -> None:
    home = provisioned_home(tmp_path / "home")
    found = Settings.load(home)
    record = record_file(home, "root")
    SET.save(record)
    assert token_source(home, found, "root").pin == PinFile(pin_file(home, "root"))
    pin_file(home, "root").unlink()
    source = token_source(home, found, "root").pin
    assert isinstance(source, PinShares)
    assert source.of == SET
    record.write_text("?")
    with pytest.raises(SettingsError, match="not the record"):
        token_source(home, found, "root")
