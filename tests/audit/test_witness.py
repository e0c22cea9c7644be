from __future__ import annotations

import base64
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, Progress
from audit.note import Note, Signature, VerifierKey
from audit.witness import SIZE, Answer, Witness, WitnessStore, origin_hash
from tests.support.tlog import GrowingLog, LogKeys, witness_key

TIME = 1_900_000_000


@pytest.fixture(scope="module")
def keys() -> LogKeys:
    return LogKeys()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WitnessStore]:
    with WitnessStore(tmp_path / "witness.sqlite") as store:
        yield store


KEY, VERIFIER = witness_key()


@pytest.fixture
def witness(store: WitnessStore, keys: LogKeys) -> Witness:
    return of(store, keys)


def of(store: WitnessStore, keys: LogKeys) -> Witness:
    return Witness(VERIFIER.name, KEY, [keys.verifier], store, clock=lambda: TIME)


def request(log: GrowingLog, keys: LogKeys, old: int, size: int | None = None) -> bytes:
    progress = log.progress(keys.verifier.name, old, size)
    return progress.encode(keys.sign(progress.text))


def newest(witness: Witness, keys: LogKeys) -> int:
    answer = witness.latest(origin_hash(keys.verifier.name))
    return Checkpoint.parse(Note.parse(answer.body).text).size if answer.status == 200 else 0


def test_a_log_is_cosigned_as_it_grows(witness: Witness, keys: LogKeys) -> None:
    log, old = GrowingLog(), 0
    for count in (1, 6, 1, 0, 300):
        log.grow(count)
        answer = witness.add_checkpoint(request(log, keys, old))
        assert answer.status == 200, answer.body
        line = Signature.parse(answer.body.decode().removesuffix("\n"))
        assert VERIFIER.verify(keys.note(log.head).text, line) == TIME
        old = log.head.size
    assert newest(witness, keys) == 308


def test_the_newest_is_handed_out_cosigned_for_whoever_asks(witness: Witness, keys: LogKeys) -> None:
    log = GrowingLog.of(3)
    assert witness.latest(origin_hash(keys.verifier.name)).status == 404
    witness.add_checkpoint(request(log, keys, 0))
    note = Note.parse(witness.latest(origin_hash(keys.verifier.name)).body)
    assert note.verify(keys.verifier) is None
    assert note.verify(VERIFIER) == TIME
    assert witness.latest(origin_hash("kwbp/other")).status == 404


def test_another_old_size_is_a_conflict_that_names_the_newest(witness: Witness, keys: LogKeys) -> None:
    log = GrowingLog.of(5)
    witness.add_checkpoint(request(log, keys, 0))
    log.grow(2)
    for old in (0, 3, 6):
        assert witness.add_checkpoint(request(log, keys, old)) == Answer(409, b"5\n", SIZE)
    assert newest(witness, keys) == 5


def _wrong_proof(log: GrowingLog, keys: LogKeys) -> bytes:
    good = log.progress(keys.verifier.name, 5)
    return Progress(5, (*good.proof[:-1], bytes(32)), good.text).encode(keys.sign(good.text))


def _by(other: LogKeys, log: GrowingLog, keys: LogKeys) -> bytes:
    progress = log.progress(keys.verifier.name, 5)
    return progress.encode(other.sign(progress.text))


def _forged(log: GrowingLog, keys: LogKeys) -> bytes:
    progress = log.progress(keys.verifier.name, 5)
    signed = keys.sign("another text\n").signatures
    return progress.encode(Note(progress.text, signed))


def _of_another_origin(log: GrowingLog, keys: LogKeys) -> bytes:
    progress = log.progress("kwbp/0000000000000000/log-ca", 5)
    return progress.encode(keys.sign(progress.text))


def _forked(log: GrowingLog, keys: LogKeys) -> bytes:
    return request(GrowingLog.of(9, "other"), keys, 5)


def _forked_at_the_same_size(log: GrowingLog, keys: LogKeys) -> bytes:
    return request(GrowingLog.of(5, "other"), keys, 5)


def _with_needless_proof(log: GrowingLog, keys: LogKeys) -> bytes:
    same = log.progress(keys.verifier.name, 5, 5)
    return Progress(5, (bytes(32),), same.text).encode(keys.sign(same.text))


def _larger_old(log: GrowingLog, keys: LogKeys) -> bytes:
    progress = Progress(6, (), log.progress(keys.verifier.name, 0, 5).text)
    return progress.encode(keys.sign(progress.text))


HOSTILE: dict[str, tuple[int, Callable[[GrowingLog, LogKeys], bytes]]] = {
    "proof altered": (422, _wrong_proof),
    "fork": (422, _forked),
    "fork of the same size": (409, _forked_at_the_same_size),
    "proof where none is needed": (422, _with_needless_proof),
    "old larger than new": (400, _larger_old),
    "signed by another key": (403, lambda log, keys: _by(LogKeys(), log, keys)),
    "signature over another text": (403, _forged),
    "other origin": (404, _of_another_origin),
    "not a request": (400, lambda log, keys: b"old 5\n"),
    "cut": (400, lambda log, keys: request(log, keys, 5)[:-1]),
    "signature line twice": (400, lambda log, keys: (lambda r: r + r.rpartition(b"\n\n")[2])(request(log, keys, 5))),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_nothing_but_the_next_checkpoint_of_the_log_is_cosigned(fault: str, witness: Witness, keys: LogKeys) -> None:
    log = GrowingLog.of(5)
    witness.add_checkpoint(request(log, keys, 0))
    log.grow(4)
    status, make = HOSTILE[fault]
    answer = witness.add_checkpoint(make(log, keys))
    assert answer.status == status, answer.body
    assert "—".encode() not in answer.body
    assert newest(witness, keys) == 5
    assert witness.add_checkpoint(request(log, keys, 5)).status == 200


def test_what_a_log_signed_against_itself_is_kept(witness: Witness, store: WitnessStore, keys: LogKeys) -> None:
    log = GrowingLog.of(5)
    witness.add_checkpoint(request(log, keys, 0))
    evidence = [_forked(log, keys), _forked_at_the_same_size(log, keys)]
    for each in (*evidence, evidence[0]):
        witness.add_checkpoint(each)
    assert sorted(store.misbehaviour(keys.verifier.name)) == sorted(evidence)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_whatever_is_asked_all_that_was_cosigned_is_one_history(asked: list[tuple[str, int, int]]) -> None:
    keys = LogKeys(pki=_PKI.pki)
    logs = {"a": GrowingLog.of(12, "a"), "b": GrowingLog.of(12, "b")}
    with WitnessStore(Path(":memory:")) as store:
        witness = of(store, keys)
        cosigned: list[tuple[str, int]] = []
        for which, old, size in asked:
            if old <= size and witness.add_checkpoint(request(logs[which], keys, old, size)).status == 200:
                cosigned.append((which, size))
    sizes = [size for _which, size in cosigned]
    assert sizes == sorted(sizes)
    assert len({which for which, size in cosigned if size}) <= 1


_PKI = LogKeys()


def test_of_many_at_once_only_one_history_is_cosigned(witness: Witness, keys: LogKeys) -> None:
    """The race that c2sp.org/tlog-witness spells out: checked first, stored last, K leaves taken back."""
    logs = [GrowingLog.of(20), GrowingLog.of(20, "fork")]
    requests = [request(log, keys, 0, size) for size in range(1, 20) for log in logs]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(witness.add_checkpoint, requests))
    # All start from nothing: the first that is stored is the only one.
    assert [answer.status for answer in answers].count(200) == 1
    assert newest(witness, keys) > 0
    assert {answer.status for answer in answers} == {200, 409}


def test_two_processes_of_one_store_cosign_one_history(tmp_path: Path, keys: LogKeys) -> None:
    with WitnessStore(tmp_path / "w.sqlite") as one, WitnessStore(tmp_path / "w.sqlite") as two:
        witnesses = [of(one, keys), of(two, keys)]
        logs = [GrowingLog.of(20), GrowingLog.of(20, "fork")]
        work = [(witnesses[n % 2], request(logs[n % 2], keys, 0, n // 2 + 1)) for n in range(20)]
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda each: each[0].add_checkpoint(each[1]).status, work))
    assert statuses.count(200) == 1


def test_a_witness_that_is_started_again_remembers(tmp_path: Path, keys: LogKeys) -> None:
    log = GrowingLog.of(5)
    with WitnessStore(tmp_path / "w.sqlite") as store:
        of(store, keys).add_checkpoint(request(log, keys, 0))
    log.grow(1)
    with WitnessStore(tmp_path / "w.sqlite") as store:
        again = of(store, keys)
        assert again.add_checkpoint(request(log, keys, 0)).status == 409
        assert again.add_checkpoint(request(log, keys, 5)).status == 200


_KILLED = """
import base64, os, signal, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ed25519
from audit import witness
from audit.note import VerifierKey

class Dies(witness.WitnessStore):
    def keep(self, *arguments):
        super().keep(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

store = Dies(Path(sys.argv[1]))
key = ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(sys.argv[2]))
log = VerifierKey.parse(sys.argv[3])
witness.Witness(sys.argv[4], key, [log], store, clock=lambda: 1).add_checkpoint(sys.stdin.buffer.read())
"""


def test_killed_between_storing_and_answering_it_knows_what_it_stored(tmp_path: Path, keys: LogKeys) -> None:
    log = GrowingLog.of(5)
    path = tmp_path / "w.sqlite"
    secret = base64.b64encode(ed25519.Ed25519PrivateKey.generate().private_bytes_raw()).decode()
    arguments = [sys.executable, "-c", _KILLED, str(path), secret, keys.verifier.encode(), VERIFIER.name]
    ended = subprocess.run(arguments, input=request(log, keys, 0), check=False)
    assert ended.returncode == -signal.SIGKILL
    with WitnessStore(path) as store:
        witness = of(store, keys)
        assert newest(witness, keys) == 5
        assert witness.add_checkpoint(request(GrowingLog.of(6, "fork"), keys, 0)).status == 409
        # The log, which got no answer, asks again: it is told the size, and gets the cosignature it missed.
        assert witness.add_checkpoint(request(log, keys, 0)) == Answer(409, b"5\n", SIZE)
        assert witness.add_checkpoint(request(log, keys, 5)).status == 200


def test_signatures_by_strangers_on_the_note_neither_help_nor_hurt(witness: Witness, keys: LogKeys) -> None:
    progress = GrowingLog.of(2).progress(keys.verifier.name, 0)
    _, verifier = witness_key("stranger")
    line = Signature(verifier.name, verifier.key_id, b"whatever")
    assert witness.add_checkpoint(progress.encode(Note(progress.text, (line,)))).status == 403
    assert witness.add_checkpoint(progress.encode(keys.sign(progress.text).with_signatures(line))).status == 200
    stored = Note.parse(witness.latest(origin_hash(keys.verifier.name)).body)
    assert [each.name for each in stored.signatures] == [keys.verifier.name, VERIFIER.name]


def test_two_trusted_keys_of_one_log_serve_its_rotation(store: WitnessStore, keys: LogKeys) -> None:
    new = LogKeys(pki=keys.pki)
    assert isinstance(new.verifier, VerifierKey)
    assert new.verifier.name == keys.verifier.name
    witness = Witness(VERIFIER.name, KEY, [keys.verifier, new.verifier], store, clock=lambda: TIME)
    log = GrowingLog.of(2)
    assert witness.add_checkpoint(request(log, keys, 0)).status == 200
    log.grow(1)
    assert witness.add_checkpoint(request(log, new, 2)).status == 200


def test_requests_that_anybody_can_make_leave_room_for_the_proof_against_a_log(
    witness: Witness, store: WitnessStore, keys: LogKeys
) -> None:
    log = GrowingLog.of(5)
    witness.add_checkpoint(request(log, keys, 0))
    honest = GrowingLog.of(5)
    for _ in range(120):  # checkpoints that the log did sign, with a proof that somebody else made up
        honest.grow(1)
        text = honest.progress(keys.verifier.name, 5).text
        assert witness.add_checkpoint(Progress(5, (bytes(32),), text).encode(keys.sign(text))).status == 422
    forked = _forked_at_the_same_size(log, keys)
    assert witness.add_checkpoint(forked).status == 409
    assert store.misbehaviour(keys.verifier.name)[0] == forked


def test_the_time_of_a_cosignature_is_one_at_which_there_was_nothing_newer(
    store: WitnessStore, keys: LogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10]
    key, verifier = witness_key()
    witness = Witness(verifier.name, key, [keys.verifier], store, clock=lambda: now[0])
    log = GrowingLog.of(5)
    keep, latest = store.keep, store.latest

    def slow_keep(*arguments: Any) -> None:
        keep(*arguments)
        now[0] = 99  # another request is stored and answered before this one

    def slow_latest(origin: str) -> bytes | None:
        note = latest(origin)
        now[0] = 99
        return note

    monkeypatch.setattr(store, "keep", slow_keep)
    answer = witness.add_checkpoint(request(log, keys, 0))
    signature = Signature.parse(answer.body.decode().removesuffix("\n"))
    assert verifier.verify(log.progress(keys.verifier.name, 0).text, signature) == 10
    monkeypatch.setattr(store, "latest", slow_latest)
    now[0] = 20
    assert Note.parse(witness.latest(origin_hash(keys.verifier.name)).body).verify(verifier) == 20
