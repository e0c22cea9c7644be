"""Checkpoints of logs, signed by real token keys: only ever one history."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from audit.checkpoint import EMPTY, Checkpoint, Progress, TreeHead
from audit.log_key import certified
from audit.note import Note, VerifierKey
from hsm_service.judging import SigningKey
from hsm_service.service import SignCommand
from hsm_service.typed_checkpoint import check_checkpoint
from hsm_service.vault import Vault
from runtime.problems import Problem
from tests.support.pki_factory import NOW
from tests.support.signing_site import World, refusal
from tests.support.tlog import GrowingLog

RA = "service:ra"


def key_of(vault: Vault, name: str = "log-ra") -> SigningKey:
    return vault.key(name).pair()


def verifier(vault: Vault, world: World, name: str = "log-ra") -> VerifierKey:
    return certified(name, key_of(vault, name).chain, (world.pki.root.certificate,), now=NOW).verifier


def sign(vault: Vault, progress: Progress | bytes, caller: str = RA, key: str = "log-ra") -> Note:
    content = progress if isinstance(progress, bytes) else progress.encode()
    return Note.parse(vault.sign(caller, key, SignCommand("checkpoint", content)).signed)


def test_a_log_has_its_checkpoints_signed_as_it_grows(vault: Vault, world: World) -> None:
    own = verifier(vault, world)
    log, old = GrowingLog(), 0
    for count in (1, 6, 0, 40):
        log.grow(count)
        note = sign(vault, log.progress(own.name, old))
        assert note.verify(own) is None
        assert Checkpoint.parse(note.text).head == log.head
        old = log.head.size


def test_what_was_signed_last_is_remembered_by_the_journal(world: World) -> None:
    with world.vault() as vault:
        own = verifier(vault, world)
        sign(vault, GrowingLog.of(5).progress(own.name, 0))
    with world.vault() as vault:
        fork = GrowingLog.of(9, "fork")
        problem = refusal(lambda: sign(vault, fork.progress(own.name, 0)), 409, "checkpoint-not-next")
        assert problem.extra["size"] == 5
        refusal(lambda: sign(vault, fork.progress(own.name, 5)), 422, "not-consistent")
        sign(vault, GrowingLog.of(9).progress(own.name, 5))


def test_of_many_at_once_one_history_is_signed(vault: Vault, world: World) -> None:
    own = verifier(vault, world)
    logs = [GrowingLog.of(12), GrowingLog.of(12, "fork")]
    requests = [log.progress(own.name, 0, size) for size in range(1, 7) for log in logs]

    def attempt(progress: Progress) -> Note | None:
        try:
            return sign(vault, progress)
        except Problem as problem:
            if problem.type != "checkpoint-not-next":
                raise
            return None

    with ThreadPoolExecutor(6) as pool:
        signed = [note for note in pool.map(attempt, requests) if note is not None]
    assert len(signed) == 1


def test_each_log_has_a_key_of_its_own_and_no_other_service_uses_it(vault: Vault, world: World) -> None:
    own = verifier(vault, world)
    request = GrowingLog.of(1).progress(own.name, 0)
    for caller in ("service:hsm", "service:ca", "service:gateway", "ceremony"):
        refusal(lambda caller=caller: sign(vault, request, caller), 403, "caller-not-allowed")  # type: ignore[misc]
    refusal(lambda: sign(vault, request, "service:ca", "log-ca"), 422, "foreign-origin")


def test_a_log_key_signs_nothing_else_and_no_other_key_signs_checkpoints(vault: Vault, world: World) -> None:
    own = verifier(vault, world)
    request = GrowingLog.of(1).progress(own.name, 0).encode()
    command = SignCommand("cms", b"\x05\x00", "1.2.3")
    refusal(lambda: vault.sign(RA, "log-ra", command), 409, "key-misused")
    refusal(lambda: sign(vault, request, RA, "ra-system"), 409, "key-misused")


def test_a_failed_signature_commits_to_the_checkpoint_all_the_same(vault: Vault, world: World) -> None:
    own = verifier(vault, world)
    log = GrowingLog.of(4)
    sign(vault, log.progress(own.name, 0))
    same = log.progress(own.name, 4)  # asked for again because the answer was lost
    assert sign(vault, same).text == same.text


ORIGIN = "origin"
LOG = GrowingLog.of(9)
LAST = TreeHead(5, LOG.root(5))


def _text(progress: Progress, change: Callable[[str], str]) -> Progress:
    return dataclasses.replace(progress, text=change(progress.text))


HOSTILE: dict[str, tuple[int, str, Callable[[str], bytes]]] = {
    "not a request": (422, "cut", lambda origin: b"old 5\n"),
    "without line feed": (422, "cut", lambda origin: LOG.progress(origin, 5).encode()[:-1]),
    "leading zero": (422, "bad-number", lambda origin: LOG.progress(origin, 5).encode().replace(b"\n9\n", b"\n09\n")),
    "a signature below": (
        422,
        "extension-lines",
        lambda origin: _text(LOG.progress(origin, 5), lambda text: text + "— x AAAA\n").encode(),
    ),
    "an extension line": (
        422,
        "extension-lines",
        lambda origin: _text(LOG.progress(origin, 5), lambda text: text + "more\n").encode(),
    ),
    "another origin": (422, "foreign-origin", lambda origin: LOG.progress(origin + "x", 5).encode()),
    "smaller than the last": (422, "not-consistent", lambda origin: Progress(5, (), _checkpoint(origin, 4)).encode()),
    "the last size with another root": (
        422,
        "not-consistent",
        lambda origin: Progress(5, (), Checkpoint(origin, 5, bytes(32)).text).encode(),
    ),
    "no proof": (422, "not-consistent", lambda origin: Progress(5, (), _checkpoint(origin, 9)).encode()),
    "proof of a fork": (422, "not-consistent", lambda origin: GrowingLog.of(9, "fork").progress(origin, 5).encode()),
    "from an older one": (409, "checkpoint-not-next", lambda origin: LOG.progress(origin, 3).encode()),
    "from nothing": (409, "checkpoint-not-next", lambda origin: LOG.progress(origin, 0).encode()),
    "from a newer one": (409, "checkpoint-not-next", lambda origin: LOG.progress(origin, 7).encode()),
}


def _checkpoint(origin: str, size: int) -> str:
    return Checkpoint(origin, size, LOG.root(size)).text


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_request_with_one_thing_wrong_is_refused(fault: str, founded_key: tuple[SigningKey, str]) -> None:
    key, origin = founded_key
    assert check_checkpoint(LOG.progress(origin, 5).encode(), key, LAST).head == LOG.head
    status, slug, make = HOSTILE[fault]
    refusal(lambda: check_checkpoint(make(origin), key, LAST), status, slug)


@pytest.fixture(scope="module")
def founded_key(founded: World) -> tuple[SigningKey, str]:
    with founded.vault() as vault:
        return key_of(vault), verifier(vault, founded).name


def test_a_key_without_certificate_signs_no_checkpoint(founded_key: tuple[SigningKey, str]) -> None:
    key, origin = founded_key
    bare = dataclasses.replace(key, chain=())
    refusal(
        lambda: check_checkpoint(GrowingLog.of(1).progress(origin, 0).encode(), bare, EMPTY),
        409,
        "key-has-no-certificate",
    )
