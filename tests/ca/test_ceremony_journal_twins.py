"""Journals with one thing wrong, and ceremonies that are gone through again: refused, and nothing is changed by it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ca.ceremony import Plan, load_act, ready_made, resume, run, state, undo, verify
from ca.ceremony.journal import CeremonyJournal
from ca.errors import CeremonyError
from tests.ca.test_ceremony_resume import kept_rooms, killed, killed_at, undo_options, void
from tests.support.ceremonies import act, environment, found, journal_of

Lines = list[bytes]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("original")
    found(place / "pki", kept_rooms(place))
    return place


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "place")
    return tmp_path / "place"


def of(place: Path) -> tuple[Path, Path]:
    return place / "pki", journal_of(place / "pki")


def planned_key(place: Path, **fields: str) -> Plan:
    text = ready_made()["key-tsa"].read_text(encoding="utf-8")
    for old, new in fields.items():
        text = text.replace(old.replace("_", "-"), new)
    return act(place / "pki", text)


def begun(place: Path, plan: Plan, *, last: str, later: timedelta = timedelta()) -> Path:
    """A run that was killed just after the step `last` was finished."""
    folder, journal = of(place)
    clock = {"clock": lambda: datetime.now(UTC) + later}

    def begin() -> None:
        def progress(step: Any, _entry: Any) -> None:
            if str(step) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        run(plan, folder=folder, journal=journal, progress=progress, **{**environment(kept_rooms(place)), **clock})

    assert killed(begin)
    return journal


def contents(place: Path, *, but: Path | None = None) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file() and path != but}


def refused(place: Path, matching: str) -> None:
    """Neither goes on nor is taken back, nor told about; and no file, key or certificate is another one for it."""
    folder, journal = of(place)
    before = contents(place)
    with pytest.raises(CeremonyError, match=matching):
        resume(journal, folder=folder, **environment(kept_rooms(place)))
    with pytest.raises(CeremonyError, match=matching):
        undo(journal, **undo_options(place, []))
    assert contents(place) == before


# -- lines that are not those that were written ------------------------------------------------------------------------


def without(number: int) -> Callable[[Lines, Lines], Lines]:
    return lambda lines, _other: [*lines[:number], *lines[number + 1 :]]


def twice(number: int) -> Callable[[Lines, Lines], Lines]:
    return lambda lines, _other: [*lines[: number + 1], *lines[number:]]


def exchanged(lines: Lines, _other: Lines) -> Lines:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def of_another(number: int) -> Callable[[Lines, Lines], Lines]:
    return lambda lines, other: [*lines[:number], other[number], *lines[number + 1 :]]


def and_of_another(lines: Lines, other: Lines) -> Lines:
    return [*lines, other[len(lines)]]


def another_artefact(lines: Lines, other: Lines) -> Lines:
    line, foreign = json.loads(lines[5]), json.loads(other[5])
    line["done"]["artefact"] = foreign["done"]["artefact"]
    return [*lines[:5], json.dumps(line).encode(), *lines[6:]]


CHANGES: dict[str, Callable[[Lines, Lines], Lines]] = {
    "the begin of the first step removed": without(2),
    "what came of the first step removed": without(3),
    "the begin of a signature removed": without(4),
    "the begin entry removed": without(1),
    "a begin twice": twice(2),
    "what came of a step twice": twice(3),
    "two lines exchanged": exchanged,
    "a begin of another ceremony": of_another(2),
    "what is to be signed of another ceremony": of_another(4),
    "what came of a step in another ceremony": of_another(3),
    "a line of another ceremony at the end": and_of_another,
    "the certificate of another ceremony": another_artefact,
}


@pytest.fixture(scope="module")
def two_journals(original: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lines, Lines]:
    """A place whose ceremony was killed after its certificate, its journal, and that of another ceremony."""
    places = [tmp_path_factory.mktemp("killed") / name for name in ("one", "other")]
    for each in places:
        shutil.copytree(original, each)
    journals = [
        begun(places[0], planned_key(places[0]), last="certificate keys/tsa-2"),
        begun(places[1], planned_key(places[1]), last="check hierarchy", later=timedelta(minutes=1)),
    ]
    one, other = (journal.read_bytes().splitlines() for journal in journals)
    return places[0], one, other


@pytest.mark.parametrize("change", CHANGES)
def test_a_journal_whose_lines_are_others_is_refused(
    two_journals: tuple[Path, Lines, Lines], tmp_path: Path, change: str
) -> None:
    original, lines, other = two_journals
    place = tmp_path / "place"
    shutil.copytree(original, place)
    journal_of(place / "pki").write_bytes(b"\n".join(CHANGES[change](lines, other)) + b"\n")

    refused(place, r"journal\.jsonl")
    with pytest.raises(CeremonyError, match=r"journal\.jsonl"):
        state(journal_of(place / "pki"))


def test_a_last_line_that_was_cut_short_is_done_again(two_journals: tuple[Path, Lines, Lines], tmp_path: Path) -> None:
    original, lines, _other = two_journals
    place = tmp_path / "place"
    shutil.copytree(original, place)
    folder, journal = of(place)
    signed = kept_rooms(place).service.calls  # type: ignore[attr-defined]
    journal.write_bytes(b"\n".join([*lines[:-1], lines[-1][:-9]]))

    resume(journal, folder=folder, **environment(kept_rooms(place)))

    assert len(verify(folder, now=datetime.now(UTC)).ceremonies) == 2
    # The same bytes were signed a second time: there is no second certificate.
    new = kept_rooms(place).service.calls.keys() - signed.keys()  # type: ignore[attr-defined]
    assert [each for each in new if each.startswith("certificate ")] == []


# -- another file than the one that was begun with ---------------------------------------------------------------------


def test_another_file_is_not_gone_on_with(place: Path) -> None:
    """What was begun goes on from its journal, whatever has become of the YAML file; another one must wait."""
    folder, journal = of(place)
    begun(place, planned_key(place), last="key keys/tsa-2")
    changed = planned_key(place, tsa_2="tsa-3")
    before = contents(place)

    with pytest.raises(CeremonyError, match="not finished: resume or undo it first"):
        run(changed, folder=folder, journal=journal, **environment(kept_rooms(place)))
    assert contents(place) == before

    resume(journal, folder=folder, **environment(kept_rooms(place)))
    assert (folder / "keys" / "tsa-2.pem").exists()
    assert not (folder / "keys" / "tsa-3.pem").exists()


# -- gone through again ------------------------------------------------------------------------------------------------


def test_a_ceremony_that_was_finished_is_neither_resumed_nor_undone(place: Path) -> None:
    folder, journal = of(place)
    run(planned_key(place), folder=folder, journal=journal, **environment(kept_rooms(place)))
    (kept,) = journal.parent.glob("kwbp-*tsa*-*.jsonl")
    for whole in (True, False):
        lines = kept.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines if whole else lines[:5]))

        refused(place, "cannot be undone|ended already|was published since")
        journal.unlink()


def test_an_undone_ceremony_is_not_undone_again_when_the_next_one_made_its_keys(place: Path) -> None:
    folder, journal = of(place)
    begun(place, planned_key(place), last="key keys/tsa-2")
    undone = undo(journal, **undo_options(place, [])).journal.read_bytes()
    run(planned_key(place), folder=folder, journal=journal, **environment(kept_rooms(place)))
    assert "tsa-2" in {key.name for key in kept_rooms(place).service.list_keys()}

    for lines in (undone, b"".join(undone.splitlines(keepends=True)[:-1])):
        journal.write_bytes(lines)
        refused(place, "ended already|was published since|being undone")
        journal.unlink()


def test_a_key_that_another_run_made_is_not_destroyed_by_an_older_journal(place: Path) -> None:
    """Two runs of one file, the first undone before it published; its journal takes the place of the second's."""
    _folder, journal = of(place)
    begun(place, planned_key(place), last="key keys/tsa-2")
    older = journal.read_bytes()
    kept_rooms(place).service.take_back_key("tsa-2")
    journal.unlink()
    begun(place, planned_key(place), last="key keys/tsa-2")
    journal.write_bytes(older)
    keys = kept_rooms(place).service.list_keys()

    with pytest.raises(CeremonyError, match="another key"):
        undo(journal, **undo_options(place, []))

    assert kept_rooms(place).service.list_keys() == keys


def test_an_undo_killed_after_it_published_comes_to_the_same_end(place: Path) -> None:
    """The list that the root signs a second time has other bytes: what was published is what counts."""
    folder, journal = of(place)
    text = ready_made()["sub-ca-merchant"].read_text(encoding="utf-8")
    brand = {"name": "brand-2", "profile": "brand", "template": "brand-ca", "common_name": "KWBP Brand CA 2"}
    begun(
        place,
        act(folder, {**load_act(text).model_dump(mode="json"), "authorities": [brand]}),
        last="certificate cas/brand-2",
    )
    boundary = 0
    while killed_at(boundary, lambda: void(undo(journal, **undo_options(place, [])))):
        boundary += 1
    assert boundary >= 3  # the last one after its transcript was published
    assert state(journal) is None
    assert len(x509.load_der_x509_crl((folder / "crls" / "root.crl").read_bytes())) == 1
    assert len(verify(folder, now=datetime.now(UTC) + timedelta(seconds=2)).ceremonies) == 2


# -- two at once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["archived", "archived, and another begun", "removed"])
def test_a_journal_that_ended_while_another_process_waited_for_it_is_not_taken_for_the_one_under_way(
    place: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """The other process lets go of the file between this one's open and its lock."""
    _folder, journal = of(place)
    begun(place, planned_key(place), last="key keys/tsa-2")
    kept = journal.with_name("kept.jsonl")
    real = fcntl.flock
    once = iter([True])

    def flock(file: int, how: int) -> None:
        if next(once, False):
            if then == "removed":
                journal.unlink()
            else:
                journal.rename(kept)
            if then == "archived, and another begun":
                shutil.copyfile(kept, journal)
        real(file, how)

    with monkeypatch.context() as patched, pytest.raises(CeremonyError, match="in another process"):
        patched.setattr("ca.ceremony.journal.fcntl.flock", flock)
        CeremonyJournal.open(journal)
    assert kept.exists() is (then != "removed")
    assert journal.exists() is (then == "archived, and another begun")


def test_of_two_that_resume_at_once_one_is_refused_and_everything_is_made_once(place: Path) -> None:
    folder, journal = of(place)
    begun(place, planned_key(place), last="key keys/tsa-2")
    refusals: list[str] = []

    def second(*_arguments: Any) -> None:
        for again in (
            lambda: resume(journal, folder=folder, **environment(kept_rooms(place))),
            lambda: undo(journal, **undo_options(place, [])),
        ):
            with pytest.raises(CeremonyError, match="under way in another process") as refusal:
                again()
            refusals.append(str(refusal.value))

    resume(journal, folder=folder, progress=second, **environment(kept_rooms(place)))

    assert len(refusals) >= 4
    calls = kept_rooms(place).service.calls  # type: ignore[attr-defined]
    assert calls["make tsa-2"] == 1
    assert state(journal) is None
