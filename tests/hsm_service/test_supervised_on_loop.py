"""A supervised token whose answers are heard on an event loop: the same, without a thread for each answer."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from audit import Journal
from hsm_service.errors import TokenTrouble
from hsm_service.keys import KeyRef
from hsm_service.provision import supervise_token
from hsm_service.steps import AsyncRunner, Call, Steps
from hsm_service.supervised import SupervisedToken
from runtime.settings import Home
from tests.support.softhsm import provisioned_home

PATIENCE = 60.0
DIGEST = hashlib.sha256(b"what is signed").digest()
EcKey = tuple[KeyRef, ec.EllipticCurvePublicKey]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("on-loop"))


@pytest.fixture
def token(home: Home) -> Iterator[SupervisedToken]:
    with supervise_token(home, "gateway") as token:
        assert token.wait_healthy(PATIENCE), token.trouble
        yield token


@pytest.fixture
def key(token: SupervisedToken) -> EcKey:
    return token.generate_ec(f"signing-{os.urandom(4).hex()}")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        yield journal


def signing(token: SupervisedToken, ref: KeyRef) -> Steps[bytes]:
    signature: bytes = yield Call(token, "sign_ecdsa_digest", (ref, DIGEST))
    return signature


def check(key: EcKey, signature: bytes) -> None:
    key[1].verify(signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))


def is_stopped(process: int) -> bool:
    """Whether every thread of the process stands still."""
    states = [
        path.read_text("ascii").rpartition(")")[2].split()[0] for path in Path(f"/proc/{process}/task").glob("*/stat")
    ]
    return set(states) == {"T"}


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)  # what is waited for is another thread's


def test_many_calls_of_a_loop_are_answered_on_it(token: SupervisedToken, key: EcKey, journal: Journal) -> None:
    heard_in: set[int] = set()

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        token.hear_on(loop)
        running = AsyncRunner(journal, asyncio.to_thread)
        await asyncio.gather(*(running.run(signing(token, key[0])) for _ in range(8)))  # by now it is handed over
        answered = loop.create_future()

        def done(_answer: object) -> None:
            heard_in.add(threading.get_ident())
            loop.call_soon_threadsafe(answered.set_result, None)

        await until(lambda: token.in_flight == 0)
        token.submit("random", (8,), done)
        await answered
        signatures = await asyncio.gather(*(running.run(signing(token, key[0])) for _ in range(200)))
        token.hear_on(None)
        return signatures

    for signature in asyncio.run(main()):
        check(key, signature)
    assert heard_in == {threading.get_ident()}
    check(key, token.sign_ecdsa_digest(key[0], DIGEST))  # heard by a thread again


def test_threads_are_answered_while_a_loop_hears(token: SupervisedToken, key: EcKey) -> None:
    async def main() -> list[bytes]:
        token.hear_on(asyncio.get_running_loop())
        calls = (asyncio.to_thread(token.sign_ecdsa_digest, key[0], DIGEST) for _ in range(20))
        signatures = await asyncio.gather(*calls)
        token.hear_on(None)
        return signatures

    for signature in asyncio.run(main()):
        check(key, signature)


def test_the_loop_that_hears_cannot_wait_for_an_answer_itself(token: SupervisedToken, key: EcKey) -> None:
    async def main() -> None:
        token.hear_on(asyncio.get_running_loop())
        with pytest.raises(RuntimeError, match="cannot wait"):
            token.sign_ecdsa_digest(key[0], DIGEST)
        token.hear_on(None)

    asyncio.run(main())


def test_a_process_that_dies_fails_its_calls_and_the_next_one_is_heard_on_the_loop_too(
    token: SupervisedToken, key: EcKey, journal: Journal
) -> None:
    async def main() -> list[object]:
        token.hear_on(asyncio.get_running_loop())
        running = AsyncRunner(journal, asyncio.to_thread)
        answers: list[object] = []
        for _ in range(3):
            calls = [asyncio.ensure_future(running.run(signing(token, key[0]))) for _ in range(60)]
            await asyncio.sleep(0.002)
            process = token.process_id
            if process is not None:
                os.kill(process, signal.SIGKILL)
            answers += await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda process=process: token.healthy and token.process_id != process)  # type: ignore[misc]
        answers.append(await running.run(signing(token, key[0])))
        token.hear_on(None)
        return answers

    answers = asyncio.run(main())
    assert isinstance(answers[-1], bytes)
    assert any(isinstance(answer, TokenTrouble) for answer in answers)
    for answer in answers:
        if isinstance(answer, bytes):
            check(key, answer)
        else:
            assert isinstance(answer, TokenTrouble)


def test_a_process_that_hangs_is_noticed_while_a_loop_hears(home: Home) -> None:
    with supervise_token(home, "merchants", deadline=0.5) as token:
        assert token.wait_healthy(PATIENCE)

        async def main() -> None:
            token.hear_on(asyncio.get_running_loop())
            assert len(await asyncio.to_thread(token.random, 8)) == 8
            process = token.process_id
            assert process is not None
            os.kill(process, signal.SIGSTOP)
            await until(lambda: is_stopped(process))
            with pytest.raises(TokenTrouble):
                await asyncio.to_thread(token.random, 8)
            await until(lambda: token.healthy and token.process_id != process)
            assert len(await asyncio.to_thread(token.random, 8)) == 8

        asyncio.run(main())  # ends without taking the loop back: a thread hears again, and closing works


def test_a_loop_that_stands_still_for_longer_than_the_deadline_kills_no_token(home: Home) -> None:
    with supervise_token(home, "merchants", deadline=1.5) as token:
        assert token.wait_healthy(PATIENCE)
        process = token.process_id

        async def main() -> None:
            loop = asyncio.get_running_loop()
            token.hear_on(loop)
            await asyncio.to_thread(token.random, 8)
            answers: list[object] = []
            for _ in range(8):
                token.submit("random", (8,), answers.append)
            time.sleep(3)  # noqa: ASYNC251  # as a disk that takes this long for a sync
            await until(lambda: len(answers) == 8)
            assert [answer for answer in answers if not isinstance(answer, bytes)] == []

        asyncio.run(main())
        assert token.process_id == process


def test_a_loop_that_was_closed_is_let_go(token: SupervisedToken, key: EcKey) -> None:
    async def main() -> None:
        token.hear_on(asyncio.get_running_loop())
        await asyncio.to_thread(token.random, 8)

    asyncio.run(main())
    check(key, token.sign_ecdsa_digest(key[0], DIGEST))
