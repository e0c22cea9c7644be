"""A publication as files: installed at once or not at all, judged by openssl from the files alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cps.errors import PackError
from pki.timestamp import MAX_RESPONSE
from statements.files import PublicationError, PublicationFiles, install, names_in, read_texts
from tests.support.cps_cases import Office
from tests.support.judges import attime
from tests.support.pki_factory import NOW
from tests.support.publications import Press

NAME = "kwbp-cps-1.1.0"


@pytest.fixture(scope="module")
def press() -> Press:
    return Press(Office())


@pytest.fixture(scope="module")
def made(press: Press) -> PublicationFiles:
    return press.files()


def test_what_is_installed_is_read_as_it_was(tmp_path: Path, made: PublicationFiles) -> None:
    root = tmp_path / "cps"
    assert names_in(root) == []
    install(root, NAME, made)
    assert names_in(root) == [NAME]
    assert PublicationFiles.read(root / NAME) == made
    assert PublicationFiles.read(root / NAME).candidate().pack.cps.version == "1.1.0"


def test_the_same_again_is_no_error_and_another_is_refused(
    tmp_path: Path, press: Press, made: PublicationFiles
) -> None:
    install(tmp_path, NAME, made)
    install(tmp_path, NAME, made)
    with pytest.raises(PublicationError, match=f"{NAME} is published already"):
        install(tmp_path, NAME, replace(made, stamp=press.token(b"".join(made.statements))))
    assert PublicationFiles.read(tmp_path / NAME) == made


def _steps(made: PublicationFiles) -> list[str]:
    return [*made.all(), "rename", "sync"]


def _killed_at(root: Path, made: PublicationFiles, step: str) -> None:
    """Install in a process of its own that is killed before `step`."""

    def kill(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        install(root, NAME, made, step=kill)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_process_that_is_killed_between_any_two_steps_leaves_nothing_or_all(
    tmp_path: Path, made: PublicationFiles
) -> None:
    for step in _steps(made):
        root = tmp_path / step.replace("/", "-")
        _killed_at(root, made, step)
        assert names_in(root) == ([NAME] if step == "sync" else []), step
        if step == "rename":
            _killed_at(root, made, "clear")
        install(root, NAME, made)
        assert PublicationFiles.read(root / NAME) == made


def test_openssl_verifies_the_signatures_and_the_time_stamp(
    tmp_path: Path, press: Press, made: PublicationFiles
) -> None:
    install(tmp_path, NAME, made)
    folder = tmp_path / NAME
    press.office.pki.write(tmp_path)
    trusted = ["-CAfile", str(tmp_path / "root.pem"), *attime(NOW)]
    for signed in sorted((folder / "signed").iterdir()):
        command = ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(signed), "-purpose", "any", *trusted]
        subprocess.run([*command, "-out", str(tmp_path / "content")], check=True, capture_output=True)
    data = tmp_path / "data"
    data.write_bytes(b"".join(each.read_bytes() for each in sorted((folder / "signed").iterdir())))
    command = ["openssl", "ts", "-verify", "-in", str(folder / "stamp.tsr"), "-data", str(data), *trusted]
    subprocess.run([*command, "-untrusted", str(tmp_path / "cas.pem")], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: (folder / "pack.yaml").unlink(), "pack.yaml: No such file"),
        (lambda folder: (folder / "stamp.tsr").write_bytes(b"no"), "stamp.tsr: "),
        (lambda folder: (folder / "stamp.tsr").write_bytes(b"\0" * (MAX_RESPONSE + 1)), "stamp.tsr is larger than"),
        (lambda folder: (folder / "pack.yaml").write_bytes(b"#" * 1024 * 1025), "pack.yaml is larger than"),
        (lambda folder: (folder / "signed" / "1.p7s").unlink(), "1.p7s, 2.p7s and so on"),
        (lambda folder: (folder / "signed" / "x.p7s").write_bytes(b""), "1.p7s, 2.p7s and so on"),
        (lambda folder: [each.unlink() for each in (folder / "signed").iterdir()], "1.p7s, 2.p7s and so on"),
        (lambda folder: [each.unlink() for each in (folder / "texts").iterdir()], "there are no texts"),
    ],
)
def test_a_folder_with_one_thing_wrong_is_no_publication(
    tmp_path: Path, made: PublicationFiles, spoil: Callable[[Path], object], fault: str
) -> None:
    install(tmp_path, NAME, made)
    spoil(tmp_path / NAME)
    with pytest.raises(PublicationError, match=fault):
        PublicationFiles.read(tmp_path / NAME)


def test_a_pack_that_cannot_be_loaded_is_no_candidate(made: PublicationFiles) -> None:
    with pytest.raises(PackError, match="breaks its schema"):
        replace(made, pack=b"cps: {}").candidate()


def test_where_nothing_can_be_written_nothing_is_installed(tmp_path: Path, made: PublicationFiles) -> None:
    (tmp_path / "cps").write_bytes(b"a file")
    with pytest.raises(PublicationError, match="exists"):
        install(tmp_path / "cps", NAME, made)
    with pytest.raises(PublicationError, match="there are no texts"):
        read_texts(tmp_path)
