from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit.anchor import anchor
from audit.checkpoint import EMPTY, Checkpoint, Progress
from audit.checkpoint_files import CheckpointFiles, SignedCheckpoint
from audit.checkpointer import ENTRIES, INTERVAL, Checkpointer
from audit.errors import BrokenJournalError, ForkError, NoteError, WitnessError
from audit.journal import Journal
from audit.merkle import verify_consistency
from audit.note import Note, Signature, VerifierKey
from audit.verify import log_folder
from audit.witness import SIZE, Answer, Witness, WitnessStore, origin_hash
from audit.witness_client import AwayError, ConflictError
from runtime.problems import Problem
from tests.support.tlog import LogKeys, witness_key

KEY, VERIFIER = witness_key()


class TokenKey:
    """Signs as the token does: only what extends the last, which it remembers by itself."""

    def __init__(self, keys: LogKeys) -> None:
        self.keys = keys
        self.last = EMPTY
        self.away = False
        self.asked = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, request: bytes) -> bytes:
        self.asked += 1
        self.meanwhile()
        if self.away:
            raise Problem(503, "token-unavailable", "away")
        progress = Progress.parse(request)
        head = Checkpoint.parse(progress.text).head
        if progress.old != self.last.size:
            raise Problem(409, "checkpoint-not-next", "not next", size=self.last.size)
        if not verify_consistency(self.last.size, head.size, self.last.root, head.root, progress.proof):
            raise Problem(422, "not-consistent", "fork")
        self.last = head
        return self.keys.sign(progress.text).encode()


class Connected:
    """A witness without a network between."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.away = False

    @property
    def verifier(self) -> VerifierKey:
        return self.witness.verifier

    def latest(self, log: VerifierKey) -> Note | None:
        if self.away:
            raise AwayError("away")
        answer = self.witness.latest(origin_hash(log.name))
        return Note.parse(answer.body) if answer.status == 200 else None

    def add_checkpoint(self, progress: Progress, note: Note) -> Signature:
        if self.away:
            raise AwayError("away")
        answer: Answer = self.witness.add_checkpoint(progress.encode(note))
        if answer.content_type == SIZE:
            raise ConflictError(int(answer.body))
        if answer.status != 200:
            raise WitnessError(answer.body.decode())
        return Signature.parse(answer.body.decode().removesuffix("\n"))


class Site:
    """A log on disk with its key and a witness, and a clock that stands."""

    def __init__(self, folder: Path) -> None:
        self.keys = LogKeys()
        self.sign = TokenKey(self.keys)
        self.path = folder / "ca.jsonl"
        self.files = CheckpointFiles(self.path)
        self.witness = Connected(
            Witness(VERIFIER.name, KEY, [self.keys.verifier], WitnessStore(folder / "w.sqlite"), clock=lambda: 1)
        )
        self.now = 0.0
        self.journal = Journal.open(self.path)

    def checkpointer(self, *, asked: bool = True, own: int = 0, witnessed: bool = True) -> Checkpointer:
        return Checkpointer(
            self.journal,
            self.files,
            self.keys.verifier,
            self.sign,
            witness=self.witness if witnessed else None,
            asked=asked,
            own=own,
            clock=lambda: self.now,
        )

    def grow(self, count: int = 1) -> None:
        for number in range(count):
            self.journal.append({"event": "test", "number": number})

    def signed(self) -> SignedCheckpoint | None:
        return self.files.read(self.keys.verifier)[0]

    def witnessed(self) -> SignedCheckpoint | None:
        return self.files.read(self.keys.verifier)[1]

    def copy(self) -> dict[Path, bytes]:
        """Everything of the log on disk, as somebody with a backup has it."""
        folder = log_folder(self.path)
        files = [self.path, self.path.with_suffix(".head"), *(f for f in folder.rglob("*") if f.is_file())]
        return {file: file.read_bytes() for file in files}

    def rewrite(self, entries: int) -> None:
        """Another log in place of this one, with that many entries."""
        self.journal.close()
        for file in self.copy():
            file.unlink()
        self.journal = Journal.open(self.path)
        self.grow(entries)

    def restore(self, copy: dict[Path, bytes]) -> None:
        for file in log_folder(self.path).rglob("*"):
            if file.is_file():
                file.unlink()
        for file, content in copy.items():
            file.write_bytes(content)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def size(found: SignedCheckpoint | None) -> int:
    return 0 if found is None else found.checkpoint.size


def test_a_log_that_grew_is_signed_and_witnessed(site: Site) -> None:
    site.grow(3)
    site.checkpointer().step()
    found = site.signed()
    assert found is not None
    assert found.checkpoint.head == site.journal.head
    assert found.note.verify(VERIFIER) == 1
    assert site.witnessed() == found


def test_signed_within_a_second_or_a_thousand_entries(site: Site) -> None:
    made = site.checkpointer()
    site.grow()
    made.step()
    site.grow()
    made.step()
    assert size(site.signed()) == 1
    site.now += INTERVAL
    made.step()
    assert size(site.signed()) == 2
    for _ in range(ENTRIES):
        site.journal.submit({"event": "test"}, lambda _answer: None)
    site.journal.append({"event": "last"})
    made.step()
    assert size(site.signed()) == 3 + ENTRIES


def test_an_idle_log_is_left_alone(site: Site) -> None:
    site.grow()
    made = site.checkpointer()
    for _ in range(5):
        made.step()
        site.now += 10
    assert site.sign.asked == 1


def test_a_log_that_grows_by_being_signed_comes_to_rest(site: Site) -> None:
    site.sign.meanwhile = lambda: site.grow(2)
    site.grow()
    made = site.checkpointer(own=2)
    for _ in range(5):
        made.step()
        site.now += 10
    assert site.sign.asked == 1
    site.grow()  # something else than its own two
    made.step()
    assert site.sign.asked == 2
    again = site.checkpointer(own=2)
    again.step()
    assert site.sign.asked == 2


def test_what_is_left_at_the_end_is_signed(site: Site) -> None:
    made = site.checkpointer()
    site.grow()
    made.step()
    site.grow()
    made.close()
    assert size(site.signed()) == size(site.witnessed()) == 2


def test_the_thread_signs_by_itself(site: Site) -> None:
    made = site.checkpointer()
    made.start()
    site.grow(5)
    made.close()
    assert size(site.signed()) == 5


def test_without_the_token_entries_are_recorded_and_signed_later(site: Site) -> None:
    site.sign.away = True
    made = site.checkpointer()
    site.grow()
    made.step()
    made.step()
    assert site.sign.asked == 1  # not asked again at once
    site.grow()
    site.sign.away = False
    site.now += 1
    made.step()
    assert size(site.witnessed()) == 2


def test_without_the_witness_checkpoints_are_signed_and_cosigned_later(site: Site) -> None:
    made = site.checkpointer()
    site.grow()
    made.step()
    site.witness.away = True
    site.grow()
    site.now += 1
    made.step()
    assert (size(site.signed()), size(site.witnessed())) == (2, 1)
    site.witness.away = False
    site.now += 60
    made.step()
    assert (size(site.signed()), size(site.witnessed())) == (2, 2)


def test_an_answer_that_was_lost_is_made_up_for(site: Site) -> None:
    site.grow(2)
    made = site.checkpointer()
    made.step()
    before = site.copy()
    site.grow()
    site.now += 1
    made.step()
    for file, content in before.items():  # signed and cosigned, but the process died before it wrote that down
        if file.name.startswith("checkpoint"):
            file.write_bytes(content)
    site.journal.close()
    record = site.path.with_suffix(".head")
    record.write_bytes(before[record])
    site.journal = Journal.open(site.path)
    site.grow()
    site.checkpointer().step()
    assert size(site.signed()) == size(site.witnessed()) == 4


def _anchored(site: Site) -> Journal:
    head = anchor(site.files, site.keys.verifier, site.witness).head
    return Journal.open(site.path, extends=(head.size, head.root))


def test_an_older_copy_of_everything_does_not_open(site: Site) -> None:
    made = site.checkpointer()
    site.grow(3)
    made.step()
    site.journal.close()
    old = site.copy()
    site.journal = Journal.open(site.path)
    site.grow(2)
    site.checkpointer().step()
    site.journal.close()
    _anchored(site).close()
    site.restore(old)
    Journal.open(site.path).close()  # by itself it is whole
    with pytest.raises(BrokenJournalError, match="3 entries, 5 were noted"):
        _anchored(site)


def test_a_log_that_was_rewritten_does_not_open(site: Site, tmp_path: Path) -> None:
    site.grow(3)
    site.checkpointer().step()
    site.rewrite(9)
    site.journal.close()
    with pytest.raises(BrokenJournalError, match="witness-mismatch"):
        _anchored(site)


def test_with_the_witness_away_the_log_opens_on_its_own_checkpoint(site: Site) -> None:
    site.grow(3)
    site.checkpointer().step()
    site.witness.away = True
    waited: list[float] = []
    found = anchor(site.files, site.keys.verifier, site.witness, patience=0.3, sleep=waited.append)
    assert (found.head, found.asked) == (site.journal.head, False)
    assert waited


def test_a_witness_that_is_still_starting_is_waited_for(site: Site) -> None:
    site.witness.away = True

    def starts(_seconds: float) -> None:
        site.witness.away = False

    assert anchor(site.files, site.keys.verifier, site.witness, patience=9, sleep=starts).asked


def test_an_old_copy_opened_without_the_witness_records_nothing_once_it_answers(site: Site) -> None:
    made = site.checkpointer()
    site.grow(3)
    made.step()
    site.journal.close()
    old = site.copy()
    site.journal = Journal.open(site.path)
    site.grow(2)
    site.checkpointer().step()
    site.journal.close()
    site.restore(old)
    site.journal = Journal.open(site.path)
    site.witness.away = True
    again = site.checkpointer(asked=False)
    again.step()
    assert site.journal.usable
    site.witness.away = False
    site.now += 60
    again.step()
    assert again.forked
    assert not site.journal.usable


def test_what_the_token_signed_must_be_here(site: Site) -> None:
    site.grow(3)
    site.checkpointer(witnessed=False).step()
    site.rewrite(2)
    again = site.checkpointer(witnessed=False)
    again.step()
    assert again.forked
    assert not site.journal.usable


def test_another_history_is_never_signed(site: Site) -> None:
    site.grow(3)
    site.checkpointer(witnessed=False).step()
    site.rewrite(9)
    again = site.checkpointer(witnessed=False)
    again.step()
    assert again.forked
    assert site.sign.last.size == 3


def test_a_witness_that_forgot_is_told_again(site: Site, tmp_path: Path) -> None:
    site.grow(3)
    site.checkpointer().step()
    store = WitnessStore(tmp_path / "empty.sqlite")
    site.witness.witness = Witness(VERIFIER.name, KEY, [site.keys.verifier], store, clock=lambda: 2)
    site.grow()
    site.checkpointer().step()
    assert size(site.witnessed()) == 4


def test_a_checkpoint_file_that_is_none_keeps_the_log_shut(site: Site) -> None:
    site.grow()
    site.checkpointer().step()
    site.files.witnessed.write_bytes(site.files.witnessed.read_bytes()[:-3])
    with pytest.raises(NoteError):
        anchor(site.files, site.keys.verifier, site.witness)


def test_two_checkpoints_of_one_size_with_different_roots_are_a_fork(site: Site) -> None:
    site.grow(2)
    site.checkpointer().step()
    other = site.keys.note(type(EMPTY)(2, bytes(32)))
    site.files.keep_witnessed(other)
    with pytest.raises(ForkError):
        anchor(site.files, site.keys.verifier, None)


def test_an_unexpected_failure_ends_nothing(site: Site) -> None:
    def broken() -> None:
        raise RuntimeError("a fault of ours")

    site.sign.meanwhile = broken
    site.grow()
    made = site.checkpointer()
    made.step()
    site.sign.meanwhile = lambda: None
    site.now += 60
    made.step()
    assert size(site.signed()) == 1


def test_another_text_than_was_asked_for_is_not_published(site: Site) -> None:
    site.grow(2)
    honest = site.sign

    def other(request: bytes) -> bytes:
        Progress.parse(request)
        return honest.keys.note(type(EMPTY)(1, site.journal.root(1))).encode()

    made = Checkpointer(site.journal, site.files, site.keys.verifier, other, clock=lambda: site.now)
    made.step()
    assert site.signed() is None


def test_a_witness_that_took_the_place_of_another_is_told_at_once(site: Site, tmp_path: Path) -> None:
    site.grow(3)
    site.checkpointer().step()
    key, verifier = witness_key("kwbp/witness-new")
    store = WitnessStore(tmp_path / "new.sqlite")
    site.witness = Connected(Witness(verifier.name, key, [site.keys.verifier], store, clock=lambda: 2))
    site.checkpointer().step()
    found = site.witnessed()
    assert found is not None
    assert found.note.verify(verifier) == 2


def test_a_key_that_was_replaced_is_named_as_the_reason(site: Site) -> None:
    site.grow(3)
    site.checkpointer().step()
    site.keys = LogKeys(pki=site.keys.pki)
    with pytest.raises(NoteError, match="was the key replaced"):
        site.checkpointer()
