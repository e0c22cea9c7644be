"""An interrupted ceremony: a process is killed at every boundary of every step, and another one goes on or takes back.

The processes are real and die by SIGKILL; their tokens are software keys in a folder, so that they outlive them.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from ca.ceremony import Plan, load_act, ready_made, resume, run, state, undo, verify
from ca.ceremony.journal import CeremonyJournal
from ca.crl import ListedSerial
from ca.errors import CeremonyAbortedError, CeremonyError
from hsm_service.service import KeyInfo
from tests.support.ceremonies import Rooms, act, environment, found, journal_of, planned
from tests.support.software_signing import SoftwareSigning, generate


class KeptKeys(SoftwareSigning):
    """Software keys in a file, written before a call returns; counts how often each was made and signed with."""

    def __init__(self, path: Path) -> None:
        super().__init__(algorithms={"rsa-3072": "ec-p256", "rsa-4096": "ec-p384"}, make=generate)
        self.path = path
        self.calls: Counter[str] = Counter()
        if path.exists():
            self._load()

    def generate_key(self, name: str, template: str, *, owner: str | None = None) -> KeyInfo:  # type: ignore[override]
        info = super().generate_key(name, template, owner=owner)
        self._count(f"make {name}")
        return info

    def attach_certificate(self, name: str, chain: Any) -> None:
        super().attach_certificate(name, chain)
        self._save()

    def sign_certificate(self, name: str, tbs: bytes, basis: Any = None) -> bytes:
        signed = super().sign_certificate(name, tbs, basis)
        self._count(f"certificate {x509.load_der_x509_certificate(signed).serial_number}")
        return signed

    def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        signed = super().sign_crl(name, tbs, version)
        number = x509.load_der_x509_crl(signed).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        self._count(f"crl {name} {number}")
        return signed

    def take_back_key(self, name: str) -> None:
        super().take_back_key(name)
        self._count(f"destroy {name}")

    def disable_key(self, name: str, version: int) -> KeyInfo:
        info = super().disable_key(name, version)
        self._save()
        return info

    def of(self, action: str) -> list[str]:
        return [each for each in self.calls if each.startswith(action)]

    def _count(self, what: str) -> None:
        self.calls[what] += 1
        self._save()

    def _save(self) -> None:
        keys = {
            name: (
                key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
                key.info,
                [each.public_bytes(Encoding.DER) for each in key.chain],
            )
            for name, key in self._keys.items()
        }
        draft = self.path.with_suffix(".new")
        draft.write_bytes(pickle.dumps((self.calls, keys)))
        draft.replace(self.path)

    def _load(self) -> None:
        from tests.support.software_signing import _Key

        self.calls, keys = pickle.loads(self.path.read_bytes())  # noqa: S301  # our own file
        for name, (private, info, chain) in keys.items():
            key: Any = load_der_private_key(private, None)
            self._keys[name] = _Key(key, info, [x509.load_der_x509_certificate(der) for der in chain])


def kept_rooms(folder: Path) -> Rooms:
    return Rooms(KeptKeys(folder / "service.keys"), KeptKeys(folder / "root.keys"))


def killed(work: Callable[[], None]) -> bool:
    """Do `work` in a process of its own; whether it was killed (else it came to its end)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


class Mortal:
    """Kills this process at the n-th boundary: after a line of the journal, or after a call that the keys took in."""

    def __init__(self, left: int) -> None:
        self.left = left

    def boundary(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (CeremonyJournal, "_write"),
            (KeptKeys, "_save"),
            (CeremonyJournal, "archive"),
        ):
            monkeypatch.setattr(owner, name, self._after(getattr(owner, name)))
        from ca.ceremony import publish

        monkeypatch.setattr(publish, "replace_file", self._after(publish.replace_file))
        monkeypatch.setattr(publish, "publish_folder", self._after(publish.publish_folder))

    def _after(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            self.boundary()
            return result

        return call


def killed_at(boundary: int, work: Callable[[], None]) -> bool:
    def mortal() -> None:
        Mortal(boundary).watch(pytest.MonkeyPatch())
        work()

    return killed(mortal)


def test_a_ceremony_killed_at_every_boundary_one_after_the_other_makes_everything_once(tmp_path: Path) -> None:
    folder, journal, plan = tmp_path / "pki", journal_of(tmp_path / "pki"), planned()

    def go_on() -> None:
        rooms = kept_rooms(tmp_path)
        if state(journal) is None:
            run(plan, folder=folder, journal=journal, **environment(rooms))
        else:
            resume(journal, folder=folder, **environment(rooms))

    deaths = 0
    # Each life dies some boundaries on; three are the fewest in which a step can come to its end.
    while not (folder.exists() and state(journal) is None) and killed_at((2, 6, 5, 8)[deaths % 4], go_on):
        deaths += 1

    assert deaths > len(plan.steps) // 4
    rooms = kept_rooms(tmp_path)
    calls = rooms.service.calls + rooms.root.calls  # type: ignore[attr-defined]
    made = [each for each in calls if each.startswith("make ")]
    assert len(made) == len(plan.made)
    assert all(calls[each] == 1 for each in made)
    # A signature that the journal did not see any more is made again over the same bytes: it is no second certificate.
    assert len([each for each in calls if each.startswith("certificate ")]) == len(plan.orders)
    assert len([each for each in calls if each.startswith("crl ")]) == 6
    verified = verify(folder, now=datetime.now(UTC))
    assert (verified.keys, verified.certificates, verified.crls) == (len(plan.made), len(plan.orders), 6)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("original")
    found(place / "pki", kept_rooms(place))
    return place


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "place")
    return tmp_path / "place"


ACTS = {"key-tsa": 1, "rollover": 3, "destroy": 2, "sub-ca-geopolitical": 9}
"""Kinds of ceremonies, and at how many of their boundaries a process is killed: every one, every second …"""


@pytest.mark.parametrize("name", ACTS)
def test_an_act_killed_at_any_boundary_is_resumed_to_the_same_end(original: Path, tmp_path: Path, name: str) -> None:
    boundary = 0
    while True:
        place = tmp_path / str(boundary)
        shutil.copytree(original, place)
        folder, journal = place / "pki", journal_of(place / "pki")
        text = ready_made()[name].read_text(encoding="utf-8").replace("tsa-2, template", "tsa, template", 1)
        if name == "key-tsa":
            text = ready_made()[name].read_text(encoding="utf-8")
        plan = act(folder, text)
        before = kept_rooms(place)

        def begin(plan: Plan = plan, place: Path = place) -> None:
            run(plan, folder=place / "pki", journal=journal_of(place / "pki"), **environment(kept_rooms(place)))

        died = killed_at(boundary, begin)
        if died:
            left = state(journal)
            rooms = kept_rooms(place)
            if left is None:
                if not any(folder.glob("transcripts/*")):
                    run(plan, folder=folder, journal=journal, **environment(rooms))
            else:
                assert left.can_resume
                resume(journal, folder=folder, **environment(rooms))
        after = kept_rooms(place)
        for room, was in ((after.service, before.service), (after.root, before.root)):
            new = room.calls - was.calls  # type: ignore[attr-defined]
            assert all(count == 1 for what, count in new.items() if what.startswith("make "))
            certificates = [what for what in new if what.startswith("certificate ")]
            assert len(certificates) <= sum(step.action == "certificate" for step in plan.steps)
        assert state(journal) is None
        assert len(verify(folder, now=datetime.now(UTC)).ceremonies) == 2
        if not died:
            return
        boundary += ACTS[name]


UNDONE = {"sub-ca-geopolitical": 5}


@pytest.mark.parametrize("name", UNDONE)
def test_an_act_killed_at_any_boundary_is_undone_or_says_that_it_cannot_be(
    original: Path, tmp_path: Path, name: str
) -> None:
    boundary, undone = 0, 0
    while True:
        place = tmp_path / str(boundary)
        shutil.copytree(original, place)
        folder, journal = place / "pki", journal_of(place / "pki")
        plan = act(folder, ready_made()[name].read_text(encoding="utf-8"))

        def begin(plan: Plan = plan, place: Path = place) -> None:
            run(plan, folder=place / "pki", journal=journal_of(place / "pki"), **environment(kept_rooms(place)))

        if not killed_at(boundary, begin):
            break
        boundary += UNDONE[name]
        left = state(journal)
        if left is None:
            continue
        revoked: list[tuple[str, str]] = []
        options = undo_options(place, revoked)
        if left.obstacle is not None:
            with pytest.raises(CeremonyError, match="cannot be undone"):
                undo(journal, **options)
            continue
        done = undo(journal, **options)
        undone += 1
        keys = {key.name: key.state for key in kept_rooms(place).service.list_keys()}
        assert not set(done.destroyed) & keys.keys()
        assert all(keys[each] == "DISABLED" for each in done.disabled)
        assert set(done.destroyed) | set(done.disabled) == set(left.keys)
        assert sorted(done.revoked) == sorted(left.certificates)
        assert len(revoked) == len(done.revoked)
        assert state(journal) is None
        assert not (folder / "cas" / "geopolitical.pem").exists()
        verify(folder, now=datetime.now(UTC))
    assert undone > 3


def undo_options(place: Path, revoked: list[tuple[str, str]]) -> dict[str, Any]:
    def revoke(issuer: str, entries: list[ListedSerial]) -> None:
        revoked.extend((issuer, entry.serial) for entry in entries)

    options = environment(kept_rooms(place))
    options.pop("rng")
    return {**options, "folder": place / "pki", "revoke": revoke}


def test_an_undo_that_is_killed_is_done_again_and_nothing_goes_on_from_there(place: Path) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["sub-ca-geopolitical"].read_text(encoding="utf-8"))
    assert killed_at(12, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))))

    assert killed_at(0, lambda: void(undo(journal, **undo_options(place, []))))

    left = state(journal)
    assert left is not None
    assert (left.undoing, left.can_resume, left.can_undo) == (True, False, True)
    with pytest.raises(CeremonyError, match="being undone"):
        resume(journal, folder=folder, **environment(kept_rooms(place)))
    undo(journal, **undo_options(place, []))
    assert state(journal) is None


def void(_result: Any) -> None:
    return None


def test_what_the_root_signed_in_an_undone_ceremony_is_on_its_list(place: Path) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    text = ready_made()["sub-ca-merchant"].read_text(encoding="utf-8")
    brand = {"name": "brand-2", "profile": "brand", "template": "brand-ca", "common_name": "KWBP Brand CA 2"}
    document = {**load_act(text).model_dump(mode="json"), "authorities": [brand]}
    plan = act(folder, document)
    step = [str(each) for each in plan.steps].index("attach cas/brand-2")

    def begin() -> None:
        def progress(each: Any, entry: Any) -> None:
            if entry.number == step:
                os.kill(os.getpid(), signal.SIGKILL)

        run(plan, folder=folder, journal=journal, progress=progress, **environment(kept_rooms(place)))

    assert killed(begin)
    left = state(journal)
    assert left is not None
    assert left.certificates == ("cas/brand-2",)
    later = datetime.now(UTC) + timedelta(seconds=2)
    revoked: list[tuple[str, str]] = []

    done = undo(journal, **{**undo_options(place, revoked), "clock": lambda: later})

    assert (done.destroyed, done.disabled, done.revoked) == ((), ("brand-2",), ("cas/brand-2",))
    assert revoked == []  # the root's list is a ceremony's
    crl = x509.load_der_x509_crl((folder / "crls" / "root.crl").read_bytes())
    assert len(list(crl)) == 1
    verified = verify(folder, now=later)
    assert verified.ceremonies.keys() == {"transcript.json", "transcripts/0001-kwbp-merchant-ca-2.json"}


def test_a_founding_that_is_undone_leaves_no_key_and_can_be_run_again(tmp_path: Path) -> None:
    folder, journal, plan = tmp_path / "pki", journal_of(tmp_path / "pki"), planned()
    assert killed_at(150, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(tmp_path)))))

    done = undo(journal, **undo_options(tmp_path, []))

    assert len(done.destroyed) == len(plan.made)
    assert not folder.exists()
    assert kept_rooms(tmp_path).service.list_keys() == kept_rooms(tmp_path).root.list_keys() == []
    found(folder, kept_rooms(tmp_path), plan)
    assert verify(folder, now=datetime.now(UTC)).certificates == len(plan.orders)


# --- the journal


def test_a_ceremony_is_not_begun_while_another_is_unfinished_or_open(place: Path) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["key-tsa"].read_text(encoding="utf-8"))
    assert killed_at(4, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))))

    with pytest.raises(CeremonyError, match="not finished"):
        run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))
    with CeremonyJournal.open(journal), pytest.raises(CeremonyError, match="another process"):
        state(journal)


def test_a_line_that_a_crash_cut_short_announces_nothing(place: Path) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["key-tsa"].read_text(encoding="utf-8"))
    assert killed_at(4, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))))
    whole = state(journal)
    with journal.open("ab") as file:
        file.write(b'{"begun": {"number": 2, "st')

    assert state(journal) == whole
    resume(journal, folder=folder, **environment(kept_rooms(place)))


@pytest.mark.parametrize("change", ["entry", "garbage", "plan"])
def test_a_journal_that_was_tampered_with_is_refused(place: Path, change: str) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["key-tsa"].read_text(encoding="utf-8"))
    assert killed_at(4, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))))
    lines = journal.read_bytes().splitlines()
    if change == "entry":
        document = json.loads(lines[1])
        document["done"]["entry"]["outcome"]["cps"] = "https://elsewhere.example"
        lines[1] = json.dumps(document).encode()
    elif change == "plan":
        document = json.loads(lines[0])
        document["ceremony"]["make"][0]["common_name"] = "Somebody else"
        lines[0] = json.dumps(document).encode()
    else:
        lines[1] = b"garbage"
    journal.write_bytes(b"\n".join(lines) + b"\n")

    with pytest.raises(CeremonyError):
        resume(journal, folder=folder, **environment(kept_rooms(place)))


def test_a_full_disk_stops_the_ceremony_with_nothing_half_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["key-tsa"].read_text(encoding="utf-8"))
    real, left = os.write, 5

    def write(file: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        return real(file, data) if left > 0 else real(file, data[: len(data) // 2])

    with monkeypatch.context() as patched, pytest.raises(CeremonyAbortedError) as aborted:
        patched.setattr("ca.ceremony.journal.os.write", write)
        run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))

    assert "No space left" in str(aborted.value.__cause__)
    assert journal.read_bytes().endswith(b"\n")
    resume(journal, folder=folder, **environment(kept_rooms(place)))
    assert len(verify(folder, now=datetime.now(UTC)).ceremonies) == 2


def test_a_clock_that_went_back_stops_the_ceremony(place: Path) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["key-tsa"].read_text(encoding="utf-8"))
    assert killed_at(4, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))))

    early = {**environment(kept_rooms(place)), "clock": lambda: datetime.now(UTC) - timedelta(hours=1)}
    with pytest.raises(CeremonyAbortedError) as aborted:
        resume(journal, folder=folder, **early)
    assert "the clock says" in str(aborted.value.__cause__)


def test_a_key_that_was_made_and_is_not_there_any_more_stops_the_ceremony(place: Path) -> None:
    folder, journal = place / "pki", journal_of(place / "pki")
    plan = act(folder, ready_made()["key-tsa"].read_text(encoding="utf-8"))
    assert killed_at(4, lambda: void(run(plan, folder=folder, journal=journal, **environment(kept_rooms(place)))))
    kept_rooms(place).service.take_back_key("tsa-2")

    with pytest.raises(CeremonyAbortedError) as aborted:
        resume(journal, folder=folder, **environment(kept_rooms(place)))
    assert "is not in its token" in str(aborted.value.__cause__)
