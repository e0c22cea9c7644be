"""What a whole run does once: slow files first, one worker for all that rests on one run of the demo, no trace left."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import ready_python

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

_TOGETHER: Final = "tests/e2e/"
"""These files share one run of `scripts/demo`, which takes longer than any of them."""


def pytest_configure() -> None:
    """No test fails because the machine was busy: properties have no deadline. RSA keys are proven sound once."""
    from hypothesis import settings

    from tests.support.one_check import check_once

    settings.register_profile("kwbp", deadline=None)
    settings.load_profile("kwbp")
    check_once()


def pytest_sessionstart(session: pytest.Session) -> None:
    """The workers of a run share the RSA keys that its tests share, and the process that services are forked from."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        if session.config.getoption("numprocesses", None):
            ready_python.share()
    else:
        from tests.support import pki_factory  # only where there is something to share

        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        pki_factory.shared_keys = factory.getbasetemp().parent / "keys"
        pki_factory.shared_keys.mkdir(mode=0o700, exist_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded for the tests stays to the end: it is not searched for garbage meanwhile, nor ever after.

    What tests make is searched seldom, as there is room: at every seven hundredth object, as Python does by itself, it
    takes six to nine per cent of a worker's time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*ready_python.RARELY)
        gc.enable()


def pytest_collection_finish() -> None:
    """What libraries that tests have loaded compile or find out, they do once (not loaded before there is a test)."""
    from tests.support.one_compiler import compile_once
    from tests.support.one_probe import probe_once

    compile_once()
    probe_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker begins one when the others are done; before them the longest.

    Lines count as covered where a test with fixed inputs runs them. What a random or an exhaustive test happens to
    reach is no promise for the next run, and the tracer would make just those tests half as long again.
    """
    from hypothesis import is_hypothesis_test

    for item in items:
        if item.get_closest_marker("slow") or is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not item.nodeid.startswith(_TOGETHER), item.path not in slow))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """As `--dist loadfile`, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling  # only where tests run in parallel

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _TOGETHER if nodeid.startswith(_TOGETHER) else nodeid.split("::", 1)[0]

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the PostgreSQL of this process, if any of its tests asked for one."""
    used = sys.modules.get("tests.support.databases")
    if used is not None:
        used.stop_cluster()
