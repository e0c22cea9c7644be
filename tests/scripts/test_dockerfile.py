"""The image is built from what the repository has: each path, package, option, user and command of the Dockerfile.

Nothing is built here; each test holds one kind of name in the Dockerfile against the place that defines it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = {"12": (3, 11), "13": (3, 13)}
"""The Python of each Debian release."""


class Instruction(NamedTuple):
    word: str
    text: str

    @property
    def arguments(self) -> list[str]:
        return [each for each in shlex.split(self.text) if not each.startswith("--")]


@lru_cache
def stages() -> list[list[Instruction]]:
    """The Dockerfile's instructions by stage, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    found: list[list[Instruction]] = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            instruction = Instruction(*line.split(" ", 1))
            if instruction.word == "FROM":
                found.append([])
            found[-1].append(instruction)
    return found


def of(word: str, stage: int = -1) -> list[Instruction]:
    return [each for each in stages()[stage] if each.word == word]


def the(word: str, stage: int = -1) -> Instruction:
    (found,) = of(word, stage)
    return found


def files() -> set[str]:
    """What the build sees: what git has, without what `.dockerignore` names."""
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    ignored = [line for line in (ROOT / ".dockerignore").read_text().split() if line]
    return {each for each in known if each and not any(fnmatch(part, i) for i in ignored for part in each.split("/"))}


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_path_that_is_copied_is_there() -> None:
    seen = files()
    for stage in range(len(stages())):
        for each in of("COPY", stage):
            *sources, target = each.arguments
            assert sources
            if "--from=build" in each.text:
                # Scripts of a virtual environment name its place: it stays where it was built.
                assert sources == [f"{the('WORKDIR', 0).text}/{target}"]
                assert the("WORKDIR", 0) == the("WORKDIR")
            else:
                assert all(name == "." or name in seen for name in sources), each


def test_what_the_build_needs_is_not_left_out(project: dict[str, object]) -> None:
    seen = files()
    assert {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "scripts/setup"} <= seen
    tops = {name.split("/")[0] for name in seen if name.endswith(".py") and "/" in name} - {"tests", "scripts"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]  # type: ignore[index]
    assert tops | {"softhsm_config"} == set(wheel)


def test_nothing_private_goes_into_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "var", ".hypothesis", ".coverage*"} <= set(ignored)


def test_set_up_is_called_with_options_that_it_knows() -> None:
    setup = (ROOT / "scripts" / "setup").read_text()
    known = set(re.findall(r"^    (--[a-z-]+)\)", setup, re.MULTILINE))
    used = re.findall(r"scripts/setup((?: --[a-z-]+)+)", (ROOT / "Dockerfile").read_text())
    assert [each.split() for each in used] == [["--runtime"], ["--system-only"]]
    assert {option for each in used for option in each.split()} <= known


def test_packages_are_those_of_set_up() -> None:
    """Debian's Python, which set-up would install too if it were missing; everything else set-up installs itself."""
    setup = (ROOT / "scripts" / "setup").read_text()
    added = re.search(r'missing\+=\("python3 with venv"\); PACKAGES\+=\(([^)]*)\)', setup)
    assert added is not None
    installed = [re.findall(r"apt-get install (.*?) *&&", each.text) for each in of("RUN")]
    (packages,) = [line for lines in installed for line in lines]
    assert [word for word in packages.split() if not word.startswith("-")] == added[1].split()


def test_both_stages_are_the_same_debian_with_a_python_that_the_project_runs_on(project: dict[str, object]) -> None:
    images = {stage[0].arguments[0] for stage in stages()}
    (image,) = images  # the environment refers to the interpreter of the stage that made it
    release = re.fullmatch(r"debian:(\d+)-slim", image)
    assert release is not None
    low, high = re.findall(r"(\d+)\.(\d+)", project["project"]["requires-python"])  # type: ignore[index]
    assert tuple(map(int, low)) <= PYTHONS[release[1]] < tuple(map(int, high))


def test_it_runs_as_a_user_who_owns_the_volume_and_no_more() -> None:
    user, volume = the("USER").text, the("VOLUME").text
    made = next(each.text for each in of("RUN") if "useradd" in each.text)
    assert user != "root"
    assert re.search(rf"useradd .*--create-home --home-dir {volume} .*{user}$", made)
    environment = dict(each.split("=", 1) for each in the("ENV").arguments)
    assert environment["KWBP_HOME"].startswith(f"{volume}/")
    words = [each.word for each in stages()[-1]]
    assert "RUN" not in words[words.index("USER") :]


def test_the_command_is_one_of_ours(project: dict[str, object]) -> None:
    assert the("ENTRYPOINT").text == '["kwbp"]'
    assert "kwbp" in project["project"]["scripts"]  # type: ignore[index]
    environment = dict(each.split("=", 1) for each in the("ENV").arguments)
    assert environment["PATH"].split(":")[0] == f"{the('WORKDIR').text}/.venv/bin"
    assert the("CMD").text == '["serve"]'
    assert "serve" in COMMANDS
