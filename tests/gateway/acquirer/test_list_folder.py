"""Settlement lists that appear in a folder: imported once, whatever is half-written, wrong, killed or late."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select, update

from gateway.acquirer.list_folder import ListFolders, ListFolderSettings
from gateway.acquirer.list_inbox import ListInbox, Mark
from gateway.acquirer.tables import network_lists
from gateway.schema import reconciliations
from tests.gateway.acquirer.books import DAY, Books, listed
from tests.gateway.conftest import run

SETTLED = timedelta(minutes=2)


class Killed(BaseException):
    """The process ends here."""


class Folder:
    """A folder of the switch's lists, and whoever looks at it."""

    def __init__(self, books: Books, path: Path) -> None:
        self.books, self.path = books, path
        path.mkdir()

    def watcher(self, *, kill_at: str | None = None) -> ListFolders:
        def checkpoint(step: str) -> None:
            if step == kill_at:
                raise Killed

        settings = ListFolderSettings({"switch": self.path}, settled=SETTLED, due=timedelta(hours=12))
        books = self.books
        return ListFolders(settings, books.acquirer, books.store, clock=books.clock, checkpoint=checkpoint)

    def names(self, folder: str = "") -> list[str]:
        found = self.path / folder
        return sorted(each.name for each in found.iterdir() if each.is_file()) if found.exists() else []

    @property
    def imported(self) -> int:
        with self.books.store.reading() as connection:
            return connection.execute(select(func.count()).select_from(network_lists)).scalar_one()


@pytest.fixture
def folder(books: Books, tmp_path: Path) -> Folder:
    return Folder(books, tmp_path / "lists")


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"kwbp_gateway_{name}_lists_count", {"route": "switch"})


def test_a_list_that_appears_is_imported_once_and_moved(folder: Folder) -> None:
    data = folder.books.list_of([listed(folder.books.sale())])
    (folder.path / "day.jsonl").write_bytes(data)
    watcher = folder.watcher()
    run(watcher.look("switch"))
    assert (folder.names(), folder.names("done"), folder.imported) == ([], ["day.jsonl"], 1)
    (folder.path / "day.jsonl").write_bytes(data)  # the network sends it once more
    run(watcher.look("switch"))
    assert (folder.names("done"), folder.imported) == (["day.jsonl", "day.jsonl.1"], 1)
    assert (folder.path / "done" / "day.jsonl").read_bytes() == data


def test_what_is_half_written_is_left_until_it_is_whole(folder: Folder) -> None:
    data, watcher, clock = folder.books.list_of([]), folder.watcher(), folder.books.clock
    path = folder.path / "day.jsonl"
    for end in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        run(watcher.look("switch"))
        clock.advance(SETTLED.total_seconds() - 1)
        run(watcher.look("switch"))
        assert (folder.names(), folder.imported, gauge("waiting")) == (["day.jsonl"], 0, 1)
    path.write_bytes(data)
    run(watcher.look("switch"))
    assert (folder.names("done"), folder.imported, gauge("waiting")) == (["day.jsonl"], 1, 0)


def test_hidden_and_unfinished_names_are_somebody_elses(folder: Folder) -> None:
    for name in (".day.jsonl", "day.jsonl.part", "day.tmp", "day.filepart"):
        (folder.path / name).write_bytes(folder.books.list_of([]))
    run(folder.watcher().look("switch"))
    assert (len(folder.names()), folder.imported) == (4, 0)


@pytest.mark.parametrize("wrong", ["damaged", "another acquirer's", "not final", "noise", "huge", "a link", "a pipe"])
def test_what_is_no_list_for_us_is_put_aside_with_the_reason(folder: Folder, wrong: str, tmp_path: Path) -> None:
    path, books = folder.path / "day.jsonl", folder.books
    contents: dict[str, bytes] = {
        "damaged": books.list_of([listed(books.sale())]).replace(b"150000", b"150001"),
        "another acquirer's": books.list_of([], acquirer="581672"),
        "not final": books.list_of([], final=False),
        "noise": os.urandom(1000),
    }
    if wrong in contents:
        path.write_bytes(contents[wrong])
    elif wrong == "huge":
        path.write_bytes(b"")
        os.truncate(path, 10**9)
    elif wrong == "a link":
        (tmp_path / "elsewhere").write_bytes(books.list_of([]))
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    watcher = folder.watcher()
    run(watcher.look("switch"))
    assert os.path.lexists(path)
    books.clock.advance(SETTLED.total_seconds())
    run(watcher.look("switch"))
    assert folder.imported == 0
    assert not os.path.lexists(path)
    assert os.path.lexists(folder.path / "refused" / "day.jsonl")
    english, persian = (folder.path / "refused" / "day.jsonl.reason.txt").read_text("utf-8").splitlines()
    assert english != persian
    assert gauge("refused") == 1


@pytest.mark.parametrize("planted", ["done", "refused"])
def test_whoever_owns_the_folder_cannot_have_files_put_elsewhere(folder: Folder, planted: str, tmp_path: Path) -> None:
    """A link in the place of `done` or `refused` would let who brings lists write where the gateway may."""
    (tmp_path / "elsewhere").mkdir()
    (folder.path / planted).symlink_to(tmp_path / "elsewhere")
    contents = folder.books.list_of([]) if planted == "done" else b"no list"
    (folder.path / "a.jsonl").write_bytes(contents)
    other = b"no list" if planted == "done" else folder.books.list_of([])
    (folder.path / "b.jsonl").write_bytes(other)
    watcher = folder.watcher()
    for _ in range(3):
        run(watcher.look("switch"))
        folder.books.clock.advance(SETTLED.total_seconds())
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (folder.names(), gauge("waiting")) == (["a.jsonl"], 1)
    assert folder.imported == 1, "and the other files do not wait for it"
    assert folder.names("refused" if planted == "done" else "done")


def test_a_reason_is_never_written_through_a_link(folder: Folder, tmp_path: Path) -> None:
    settings = tmp_path / "kwbp.toml"
    settings.write_text("mine")
    (folder.path / "refused").mkdir()
    (folder.path / "refused" / "day.jsonl.reason.txt").symlink_to(settings)
    (folder.path / "day.jsonl").write_bytes(b"no list")
    watcher = folder.watcher()
    run(watcher.look("switch"))
    folder.books.clock.advance(SETTLED.total_seconds())
    run(watcher.look("switch"))
    assert settings.read_text() == "mine"
    assert not (folder.path / "refused" / "day.jsonl.reason.txt").is_symlink()
    assert folder.names("refused") == ["day.jsonl", "day.jsonl.reason.txt"]


def test_a_list_that_took_the_place_of_one_just_imported_is_imported_too(folder: Folder) -> None:
    """It came between the import and the move: in `done` nobody would have looked at it."""
    path, books = folder.path / "day.jsonl", folder.books
    path.write_bytes(books.list_of([]))
    following = books.list_of([], made_at=books.clock.now + timedelta(minutes=1))

    def replaced(step: str) -> None:
        if step == "list-of-folder-imported" and folder.imported == 1:
            (folder.path / ".new").write_bytes(following)
            (folder.path / ".new").rename(path)

    settings = ListFolderSettings({"switch": folder.path}, settled=SETTLED)
    watcher = ListFolders(settings, books.acquirer, books.store, clock=books.clock, checkpoint=replaced)
    run(watcher.look("switch"))
    assert (folder.names(), folder.imported) == (["day.jsonl"], 1)
    run(watcher.look("switch"))
    assert (folder.names(), folder.imported) == ([], 2)
    assert (folder.path / "done" / "day.jsonl").read_bytes() == following


@pytest.mark.parametrize("name", [b"two\nlines.jsonl", b"not-utf8-\xff\xfe.jsonl", b"\x1b[31mred", b"n" * 255])
def test_whatever_a_file_is_called_it_is_imported_or_refused(folder: Folder, name: bytes) -> None:
    path = os.fsencode(folder.path) + b"/"
    Path(os.fsdecode(path + name)).write_bytes(folder.books.list_of([]))
    watcher = folder.watcher()
    run(watcher.look("switch"))
    assert (folder.imported, folder.names()) == (1, [])
    Path(os.fsdecode(path + name)).write_bytes(b"no list")
    run(watcher.look("switch"))
    folder.books.clock.advance(SETTLED.total_seconds())
    run(watcher.look("switch"))
    assert (folder.names(), gauge("waiting"), gauge("refused")) == ([], 0, 1)


def test_a_folder_that_is_gone_does_not_hide_that_a_list_is_missing(folder: Folder) -> None:
    folder.books.sale()
    over = folder.books.clock.now
    run(
        folder.books.store.writer.run(
            lambda connection: connection.execute(update(reconciliations).values(over_at=over))
        )
    )
    folder.path.rmdir()
    folder.books.clock.advance(timedelta(hours=12).total_seconds())
    run(folder.watcher().look("switch"))
    assert gauge("missing") == 1


def test_many_files_that_are_no_lists_are_read_twice_each(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (folder.path / f"{number}").write_bytes(b"no list")
    read, counted = ListInbox.read, [0]

    def counting(inbox: ListInbox, name: str, *, largest: int) -> tuple[bytes | None, Mark]:
        counted[0] += 1
        return read(inbox, name, largest=largest)

    monkeypatch.setattr(ListInbox, "read", counting)
    watcher = folder.watcher()
    for _ in range(4):
        run(watcher.look("switch"))
    assert (gauge("waiting"), counted[0]) == (200, 200)
    folder.books.clock.advance(SETTLED.total_seconds())
    run(watcher.look("switch"))
    assert (gauge("waiting"), gauge("refused"), folder.names()) == (0, 200, [])


def test_while_nobody_knows_the_networks_key_a_list_waits(folder: Folder, tmp_path: Path) -> None:
    lists = Folder(folder.books, tmp_path / "nowhere")
    (lists.path / "day.jsonl").write_bytes(folder.books.list_of([]))
    books = folder.books
    settings = ListFolderSettings({"nowhere": lists.path}, settled=timedelta(0))
    watcher = ListFolders(settings, books.acquirer, books.store, clock=books.clock)
    for _ in range(2):
        run(watcher.look("nowhere"))
    assert (lists.names(), lists.names("refused")) == (["day.jsonl"], [])


@pytest.mark.parametrize("step", ["list-of-folder-imported", "list-of-folder-moved"])
def test_killed_at_any_step_it_is_imported_once(folder: Folder, step: str) -> None:
    (folder.path / "day.jsonl").write_bytes(folder.books.list_of([listed(folder.books.sale())]))
    with pytest.raises(Killed):
        run(folder.watcher(kill_at=step).look("switch"))
    run(folder.watcher().look("switch"))
    assert (folder.names(), folder.names("done"), folder.imported) == ([], ["day.jsonl"], 1)


def test_gateways_that_share_a_folder_import_once(folder: Folder) -> None:
    for number in range(5):
        data = folder.books.list_of([], made_at=folder.books.clock.now + timedelta(minutes=number))
        (folder.path / f"{number}.jsonl").write_bytes(data)

    async def at_once() -> None:
        await asyncio.gather(*(folder.watcher().look("switch") for _ in range(3)))

    run(at_once())
    run(folder.watcher().look("switch"))
    assert (folder.names(), folder.imported) == ([], 5)
    assert [each for each in folder.names("done") if each.count(".") == 1] == [f"{each}.jsonl" for each in range(5)]


def test_a_day_that_is_over_without_a_list_is_an_alarm_until_the_list_comes(folder: Folder) -> None:
    order, books, watcher = folder.books.sale(), folder.books, folder.watcher()

    async def over() -> None:
        values = {"over_at": books.clock.now}
        await books.store.writer.run(lambda connection: connection.execute(update(reconciliations).values(values)))

    run(over())
    run(watcher.look("switch"))
    assert gauge("missing") == 0
    books.clock.advance(12 * 3600)
    for _ in range(2):
        run(watcher.look("switch"))
        assert gauge("missing") == 1
    (folder.path / "day.jsonl").write_bytes(books.list_of([listed(order)], day=DAY))
    run(watcher.look("switch"))
    assert gauge("missing") == 0
