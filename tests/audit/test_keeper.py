"""A service's log with a witness that is served over HTTP, and everything on disk as in an installation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from audit.checkpoint import Checkpoint, Progress
from audit.errors import BrokenJournalError, NoteError, WitnessError
from audit.journal import Journal
from audit.keeper import LogKeeper, log_path, pin_witness, pinned_witness
from audit.log_key import key_name
from audit.note import VerifierKey
from audit.witness import origin_hash
from audit.witness_client import AwayError, ConflictError, WitnessClient
from audit.witness_service import MAX_REQUEST, WitnessFolder, create_app
from runtime.client import http_client
from runtime.server import start
from runtime.settings import Home
from tests.support.pki_factory import NOW, pem
from tests.support.tlog import GrowingLog, LogKeys, witness_key

KEYS = LogKeys()
URL_OF_NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An installation with the certificate of the key `log-ca`, and a witness that trusts it."""
    home = Home(tmp_path / "home")
    home.create()
    (home.pki / "keys").mkdir(parents=True)
    home.trust_anchors.write_bytes(KEYS.pki.root.certificate.public_bytes(Encoding.PEM))
    (home.pki / "keys" / f"{key_name('ca')}.pem").write_bytes(pem(*KEYS.log_key.chain))
    pin_witness(home, WitnessFolder(home.witness).create())
    WitnessFolder(home.witness).trust("ca", KEYS.verifier)
    return home


@pytest.fixture
def witness(home: Home) -> Iterator[str]:
    """The address of the witness."""
    made, store = WitnessFolder(home.witness).open()
    with start(create_app(made, [store]), tls=None, client_certificate="none") as url:
        yield url


def sign(request: bytes) -> bytes:
    return KEYS.sign(Progress.parse(request).text).encode()


def prepare(home: Home, url: str, **options: float) -> LogKeeper:
    return LogKeeper.prepare("ca", home, url, clock=lambda: NOW, **{"patience": 0.0, **options})


def session(home: Home, url: str, entries: int) -> None:
    """A life of the service: it opens its log, records, and ends."""
    with prepare(home, url) as keeper:
        with Journal.open(log_path(home, "ca"), extends=keeper.extends) as journal:
            keeper.keep(journal, sign)
            for number in range(entries):
                journal.append({"event": "test", "number": number})
            keeper.close()


def test_a_life_after_the_other(home: Home, witness: str) -> None:
    session(home, witness, 3)
    session(home, witness, 0)
    session(home, witness, 2)
    with prepare(home, witness) as keeper:
        assert keeper.extends[0] == 5


def test_a_service_does_not_open_an_older_copy_of_its_log(home: Home, witness: str, tmp_path: Path) -> None:
    session(home, witness, 3)
    shutil.copytree(home.audit, tmp_path / "backup")
    session(home, witness, 2)
    shutil.rmtree(home.audit)
    shutil.copytree(tmp_path / "backup", home.audit)
    with pytest.raises(BrokenJournalError, match="3 entries, 5 were noted"):
        session(home, witness, 1)
    assert log_path(home, "ca").read_bytes().count(b"\n") == 3


def test_without_the_witness_it_opens_on_what_lies_beside_the_log(home: Home, witness: str, tmp_path: Path) -> None:
    session(home, witness, 3)
    session(home, URL_OF_NOBODY, 1)
    log = log_path(home, "ca")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(BrokenJournalError):
        session(home, URL_OF_NOBODY, 1)


def test_without_a_certificate_of_the_log_s_key_nothing_is_opened(home: Home, witness: str) -> None:
    (home.pki / "keys" / "log-ca.pem").unlink()
    with pytest.raises(NoteError, match="bad-certificate"):
        session(home, witness, 1)


def test_a_certificate_of_another_hierarchy_is_not_believed(home: Home, witness: str) -> None:
    (home.pki / "keys" / "log-ca.pem").write_bytes(pem(*LogKeys().log_key.chain))
    with pytest.raises(NoteError, match="bad-certificate"):
        session(home, witness, 1)


def test_an_answer_of_another_witness_is_not_believed(home: Home, witness: str) -> None:
    session(home, witness, 3)
    pin_witness(home, witness_key()[1])
    with pytest.raises(WitnessError):
        prepare(home, witness)


def test_the_key_of_a_witness_is_made_once_and_for_its_owner(home: Home) -> None:
    folder = WitnessFolder(home.witness)
    assert folder.create() == folder.create() == pinned_witness(home)
    assert (home.witness / "key").stat().st_mode & 0o777 == 0o600
    assert [log.name for log in folder.logs()] == [KEYS.verifier.name]


def client(home: Home, url: str, verifier: VerifierKey | None = None, now: float | None = None) -> WitnessClient:

    pinned = verifier or pinned_witness(home)
    assert pinned is not None
    return WitnessClient(http_client(None, url), pinned, clock=lambda: time.time() if now is None else now)


def test_what_the_witness_says_over_http(home: Home, witness: str) -> None:
    log = GrowingLog.of(3)
    asked = client(home, witness)
    assert asked.latest(KEYS.verifier) is None
    progress = log.progress(KEYS.verifier.name, 0)
    asked.add_checkpoint(progress, KEYS.sign(progress.text))
    found = asked.latest(KEYS.verifier)
    assert found is not None
    assert Checkpoint.parse(found.text).head == log.head
    with pytest.raises(ConflictError) as conflict:
        asked.add_checkpoint(progress, KEYS.sign(progress.text))
    assert conflict.value.size == 3
    forked = GrowingLog.of(4, "fork").progress(KEYS.verifier.name, 3)
    with pytest.raises(WitnessError, match="422"):
        asked.add_checkpoint(forked, KEYS.sign(forked.text))
    with pytest.raises(AwayError):
        client(home, URL_OF_NOBODY).latest(KEYS.verifier)


def test_an_answer_that_was_kept_is_not_believed(home: Home, witness: str) -> None:
    progress = GrowingLog.of(3).progress(KEYS.verifier.name, 0)
    client(home, witness).add_checkpoint(progress, KEYS.sign(progress.text))
    with pytest.raises(WitnessError, match="another time"):
        client(home, witness, now=4e9).latest(KEYS.verifier)


def test_bad_requests_over_http(home: Home, witness: str) -> None:
    with http_client(None, witness) as http:
        assert http.post("/add-checkpoint", content=b"x" * (MAX_REQUEST + 1)).status_code == 413
        assert http.post("/add-checkpoint", content=b"\xff\x00").status_code == 400
        assert http.get("/add-checkpoint").status_code == 405
        assert http.get(f"/{origin_hash('kwbp/unknown')}/checkpoint").status_code == 404
        assert http.get("/x/checkpoint").status_code == 404
        progress = GrowingLog.of(3).progress(KEYS.verifier.name, 0)
        request = progress.encode(KEYS.sign(progress.text))
        assert http.post("/add-checkpoint", content=request).status_code == 200
        conflict = http.post("/add-checkpoint", content=request)
        assert (conflict.status_code, conflict.headers["content-type"]) == (409, "text/x.tlog.size")
        assert conflict.content == b"3\n"
        assert http.get("/health/ready").status_code == 200


def test_an_endless_answer_is_not_read_to_its_end(home: Home) -> None:
    async def endless(_request: Request) -> Response:
        return StreamingResponse((b"x" * 65_536 for _ in range(1 << 20)), media_type="text/plain")

    app = Starlette(routes=[Route("/{log}/checkpoint", endless)])
    with start(app, tls=None, client_certificate="none") as url, pytest.raises(WitnessError, match="more than"):
        client(home, url).latest(KEYS.verifier)
