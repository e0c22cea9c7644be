"""A database that is gone, or a disk that is full, is told as such; nothing is half done, and the CA recovers."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ca.app import create_app
from ca.errors import StoreUnavailableError
from runtime.client import http_client
from runtime.server import start
from tests.support.ca_world import CaWorld, tls_files
from tests.support.cps_cases import Office
from tests.support.many_cases import merchant_cases
from tests.support.pki_factory import PkiFactory
from tests.support.postgres import Cluster


@pytest.fixture(scope="module")
def office() -> Office:
    return Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))  # TLS looks at the machine's clock


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster that a test may stop."""
    made = Cluster.start()
    yield made
    made.stop()


def test_a_database_that_is_gone_is_503_and_serves_again_when_it_is_back(
    tmp_path: Path, office: Office, own_cluster: Cluster
) -> None:
    world = CaWorld(tmp_path, office, database=own_cluster.database())
    first, second = merchant_cases(office, 2)
    issued = world.authority.issuance.issue(first)["signing"]
    server = tls_files(world.pki, "service", "ca", tmp_path / "tls")
    path = f"/v1/certificates/{issued.issuer}/{issued.serial}"
    with (
        start(create_app(world.authority), tls=server, client_certificate="optional") as url,
        http_client(tls_files(world.pki, "service", "ra", tmp_path / "tls"), url) as client,
    ):
        assert client.get(path).status_code == 200

        own_cluster.kill()
        answer = client.get(path)
        with pytest.raises(StoreUnavailableError):
            world.authority.issuance.issue(second)

        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "urn:kwbp:problem:database-unavailable"
        assert "SELECT" not in answer.text
        assert issued.serial not in answer.text
        with pytest.raises(StoreUnavailableError):
            world.authority.publisher.follow()  # as each replica does every few seconds
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "away")
        assert client.get("/health/live").status_code == 200
        own_cluster.resume()
        assert client.get(path).status_code == 200
        world.authority.publisher.follow()
        assert client.get("/health/ready").status_code == 200
    assert len(world.authority.issuance.issue(second)) == 1
    assert world.authority.store.unfinished() == []
    world.close()


def test_a_database_that_is_lost_while_the_token_signs_has_the_certificate_later(
    tmp_path: Path, office: Office, own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = CaWorld(tmp_path, office, database=own_cluster.database())
    (case,) = merchant_cases(office, 1)
    sign = world.keys.sign_certificate

    def sign_and_lose(*arguments: object) -> bytes:
        own_cluster.kill()
        return sign(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailableError):
        patched.setattr(world.keys, "sign_certificate", sign_and_lose)
        world.authority.issuance.issue(case)
    own_cluster.resume()

    (intent,) = world.authority.store.unfinished()
    assert world.authority.issuance.resume() == 1
    assert world.authority.issuance.issue(case)["signing"].serial == intent.serial
    world.close()


def test_a_disk_that_is_full_is_told_as_such_and_leaves_nothing_half_done(tmp_path: Path, office: Office) -> None:
    (tmp_path / "db").mkdir()
    world = CaWorld(tmp_path, office)
    case, other = merchant_cases(office, 2)
    world.close()
    child = os.fork()
    if child == 0:
        os._exit(fill_the_disk(tmp_path, office, case))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    world = CaWorld(tmp_path, office)

    assert world.authority.store.unfinished() == []
    records = [world.authority.issuance.issue(each)["signing"] for each in (case, other)]
    assert len({record.serial for record in records}) == 2
    assert [record.intent_id is not None for record in world.authority.store.iterate()].count(True) == 2
    world.close()


def fill_the_disk(folder: Path, office: Office, case: object) -> int:
    """In a process of its own: no file may grow any more, which is what SQLite sees of a full disk."""
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        world = CaWorld(folder, office)
        log = (folder / "db" / "ca.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (log, log))
        for _ in range(3):  # it is told each time, and does not get stuck
            try:
                world.authority.issuance.issue(case)  # type: ignore[arg-type]
            except StoreUnavailableError as error:
                if "SQLITE" not in str(error):
                    return 3
            else:
                return 2
    except BaseException as error:  # the child must not go on as a second pytest
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        return 70
    return 0
