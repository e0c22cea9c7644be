"""The self-test: every few seconds each token signs with its probe key, and the signature is verified.

So readiness says what callers would find, and no request waits for it. What is signed is `kwbp-probe` and 32 fresh
random bytes, made up here: nobody can send anything to a probe key, and nothing that it signed means anything to
anyone. That is why the service may make such a key by itself, without officers (the making is recorded like any other),
and why its signatures are not recorded one by one: they would fill the log and prove nothing. Recorded is what matters:
that a token stopped doing well, and that it does again.

Each token has a thread of its own, so that one that hangs says nothing of the others. A test whose answer does not come
within `patience` seconds has failed; the token's process has its own, longer deadline.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import prometheus_client
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from audit.entry import JsonValue
from hsm_service.errors import HsmError
from hsm_service.judging import SigningKey
from hsm_service.kept_key import Key
from hsm_service.keys import KeyRef
from hsm_service.schemes import ECDSA_SHA256, PKCS1V15_SHA256
from runtime.logging import get_logger
from runtime.problems import Problem

PREFIX: Final = b"kwbp-probe"
INTERVAL: Final = 5.0
PATIENCE: Final = 2.0

READY: Final = "ready"
_UNTESTED: Final = "not-tested-yet"

WELL: Final = prometheus_client.Gauge(
    "kwbp_hsm_token_well", "Whether a token signed for the last self-test and the signature verified", ["token"]
)
_log: Final = get_logger("self-test")


class Asked(Protocol):
    """A token that is asked without waiting (`SupervisedToken`)."""

    @property
    def healthy(self) -> bool: ...

    def submit(self, method: str, arguments: tuple[Any, ...], done: Callable[[Any], None]) -> object: ...

    def on_recovered(self, callback: Callable[[], None]) -> None: ...


class SelfTest:
    """Tests one token on a clock, until it is closed."""

    def __init__(
        self,
        label: str,
        token: Asked,
        key: Callable[[str], Key],
        note: Callable[[Mapping[str, JsonValue]], object],
        *,
        interval: float = INTERVAL,
        patience: float = PATIENCE,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`key(label)` is the token's probe key, made if it is missing; `note` records an entry in the journal."""
        self._label = label
        self._token = token
        self._key = key
        self._note = note
        self._interval = interval
        self._patience = patience
        self._rng = rng
        self._found = _UNTESTED
        self._recorded = READY
        self._wanted = threading.Event()
        self._closed = False
        WELL.labels(label).set(0)
        token.on_recovered(self._wanted.set)
        self._thread = threading.Thread(target=self._run, name=f"self-test-{label}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """`READY`, or why the token does not do well: the slug of an error, without secrets. Cheap."""
        return self._found if self._token.healthy else "token-away"

    def close(self) -> None:
        """Ends the thread; waits for a test that is under way."""
        self._closed = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._wanted.clear()
            try:
                self._conclude(self._tested())
            except Exception:  # the journal's, for example; the next test must come
                _log.exception("the self-test failed", token=self._label)
            self._wanted.wait(self._interval)

    def _conclude(self, found: str) -> None:
        if found != self._found:
            if found == READY:
                _log.info("token signs", token=self._label)
            else:
                _log.error("token does not do well", token=self._label, reason=found)
        self._found = found
        WELL.labels(self._label).set(found == READY)
        if found != self._recorded:
            self._note({"event": "token-state", "token": self._label, "state": found})
            self._recorded = found

    def _tested(self) -> str:
        if not self._token.healthy:
            return "token-away"
        try:
            key = self._key(self._label)
            _token, ref = key.use()
            return self._sign_and_verify(ref, key.pair())
        except HsmError as error:
            return error.slug
        except Problem as problem:
            return problem.type

    def _sign_and_verify(self, ref: KeyRef, key: SigningKey) -> str:
        content = PREFIX + self._rng(32)
        scheme = PKCS1V15_SHA256 if isinstance(key.public_key, rsa.RSAPublicKey) else ECDSA_SHA256
        call = scheme.call(self._token, ref, scheme.digest(content))
        answers: list[Any] = []
        answered = threading.Event()

        def done(answer: Any) -> None:
            answers.append(answer)
            answered.set()

        self._token.submit(call.method, call.arguments, done)
        if not answered.wait(self._patience):
            return "no-answer"
        if isinstance(answers[0], HsmError):
            return answers[0].slug
        try:
            if isinstance(key.public_key, rsa.RSAPublicKey):
                key.public_key.verify(answers[0], content, padding.PKCS1v15(), hashes.SHA256())
            else:
                key.public_key.verify(answers[0], content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return "wrong-signature"
        return READY
