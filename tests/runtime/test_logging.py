"""A log on a full disk: who writes to it goes on, and the log says later what it lacks."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from runtime import logging


def _in_a_child(work: object) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # the child must not go on as a second pytest
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("room", [0, 40])
def test_a_full_disk_ends_nobody_who_logs(tmp_path: Path, room: int) -> None:
    def work() -> None:
        logging.configure("svc", tmp_path)
        log = logging.get_logger("test")
        log.error("before")
        size = (tmp_path / "svc.log").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
        for number in range(3):
            log.error("meanwhile", number=number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        log.error("after")
        log.error("and on")

    assert _in_a_child(work) == 0
    lines = (tmp_path / "svc.log").read_text("ascii").splitlines()
    said = []
    for line in lines:
        try:
            said.append(json.loads(line))
        except ValueError:
            assert len(line) == room  # what there was room for stands on a line of its own
    assert [each["event"] for each in said] == ["before", "log lines lost", "after", "and on"]
    assert said[1]["lines"] == 3


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    file = logging._LogFile(tmp_path / "svc.log")
    file.write("one ")
    file.write("line\ntwo\nthr")
    assert (tmp_path / "svc.log").read_text("ascii") == "one line\ntwo\n"
    file.write("ee\n")
    file.close()
    assert (tmp_path / "svc.log").read_text("ascii") == "one line\ntwo\nthree\n"
