"""A worker process for the token that a test module names in TOKEN, and one test for each check."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.conformance.suite")

from tests.conformance.checks import CHECKS  # noqa: E402
from tests.conformance.client import Worker  # noqa: E402
from tests.conformance.subjects import SUBJECTS  # noqa: E402


@pytest.fixture(scope="module")
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    subject = SUBJECTS[request.module.TOKEN]
    if subject.switch and os.environ.get(subject.switch) != "1":
        pytest.skip(f"only with {subject.switch}=1")
    assert subject.module is not None, f"no module of {subject.name}; scripts/setup --with-judges installs it"
    folder = tmp_path_factory.mktemp(subject.name)
    program = [sys.executable, "-P", "-m", "tests.conformance.worker", subject.name, str(folder)]
    root = str(request.config.rootpath)
    process = subprocess.Popen(
        [*subject.start(folder), *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | subject.environment(folder) | {"PYTHONPATH": root},
    )
    try:
        yield Worker(subject, process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames:
        metafunc.parametrize("check", list(CHECKS))
