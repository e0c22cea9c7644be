from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hsm_service.pkcs11_module import find_module
from hsm_service.token_layout import configuration_of, pin_file
from runtime.settings import Home
from tests.faults.faulty_module import FaultyModule, build
from tests.faults.one_token import OneToken
from tests.support.forks import alone, is_alone
from tests.support.softhsm import run_python

TOKENS = ("ca", "gateway")


def pytest_itemcollected(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function) and item.get_closest_marker("alone") and not is_alone():
        item.fixturenames = []  # they are made in the other process


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not pyfuncitem.get_closest_marker("alone") or is_alone():
        return None
    alone(pyfuncitem.nodeid, pyfuncitem.config.rootpath)
    return True


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fault-injecting module, compiled."""
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def founded_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation whose tokens `ca` and `gateway` hold a P-256 key `signer` each; nobody changes it."""
    home = Home(tmp_path_factory.mktemp("founded") / "home")
    made = run_python(
        "import sys; from pathlib import Path; from runtime.settings import Home;"
        "from hsm_service.provision import provision_tokens; provision_tokens(Home(Path(sys.argv[1])))",
        home.path,
    )
    assert made.returncode == 0, made.stderr
    for label in TOKENS:
        token = OneToken(find_module(), configuration_of(home, "service"), label, pin_file(home, label))
        assert [token.call(each) for each in ("open", "generate_ec", "close")] == [{"ok": None}] * 3
        assert token.wait() == 0
    return home


@pytest.fixture
def home(founded_home: Home, tmp_path: Path) -> Home:
    """A copy of that installation, the test's own."""
    return copy_home(founded_home, tmp_path)


@pytest.fixture
def faulty(built: Path, tmp_path: Path) -> FaultyModule:
    """SoftHSM2 behind a module that fails where it is told to."""
    return FaultyModule.make(built, tmp_path, find_module())


def copy_home(home: Home, folder: Path) -> Home:
    """The same tokens and PINs in another folder."""
    copy = Home(folder / "home")
    shutil.copytree(home.path, copy.path)
    for configuration in copy.tokens.glob("*.conf"):
        text = configuration.read_text("utf-8").replace(str(home.tokens), str(copy.tokens))
        configuration.write_text(text, "utf-8")
    return copy
