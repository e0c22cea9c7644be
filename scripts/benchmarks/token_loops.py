"""The token alone: loops of the operations of one payment, through python-pkcs11 with cached handles, nothing around.

    python -m scripts.benchmarks.token_loops HOME

HOME gets tokens of the product's own layout and configuration with keys of its own templates, made on the first run.
Then each line of standard input, `{"operations": {name: count}, "threads": n, "seconds": s}`, is answered by one line
`{"per_second": payments}`: how many payments' worth of operations the threads did together in a second.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pkcs11 import MGF, Attribute, GCMParams, KeyType, Mechanism, ObjectClass

from hsm_service.keys import KeyKind, KeyRef, Usage, protected_template
from hsm_service.provision import load_group, open_token, provision_tokens
from hsm_service.sessions import Session
from hsm_service.templates import built_in
from hsm_service.token_layout import layout
from hsm_service.tokens import Token
from runtime.secrets import Secret
from runtime.settings import Home
from scripts.benchmarks.operations import GATEWAY_SIGNATURE, MERCHANT_SIGNATURE, TIME_STAMP
from scripts.benchmarks.report import BenchmarkFailed

_TOKENS: Final = ("gateway", "merchants", "ca")
_ORDER_BYTES: Final = 640  # a PISealed
_ISO_8583_BYTES: Final = 320  # a 0200 without its MAC
_PSS: Final = (Mechanism.SHA256, MGF.SHA256, 32)
_OAEP: Final = {
    "oaep-sha1": (hashes.SHA1(), (Mechanism.SHA_1, MGF.SHA1, None)),  # noqa: S303  # what a token without SHA-256 can do
    "oaep-sha256": (hashes.SHA256(), (Mechanism.SHA256, MGF.SHA256, None)),
}
_CONTENT_KEY: Final = {**protected_template(ObjectClass.SECRET_KEY, Usage.SEAL, store=False), Attribute.ENCRYPT: False}

_Step = Callable[[], object]


class Bench:
    """The tokens, logged in, with a key of each template that a payment uses."""

    def __init__(self, home: Home) -> None:
        provision_tokens(home)
        self._tokens = {label: open_token(home, label) for label in _TOKENS}
        self._module = load_group(home, layout().group_of(_TOKENS[0]))
        self._keys = {name: self._key(name) for name in _OPERATION_OF}
        self._suite, self._sealed = self._seal_order()

    def run(self, operations: Mapping[str, int], threads: int, seconds: float) -> float:
        """Payments' worth of operations in a second, all threads together."""
        plans = [self._plan(operations) for _ in range(threads)]
        rates = [0.0] * threads
        gate = threading.Barrier(threads)

        def loop(number: int) -> None:
            steps = plans[number]
            gate.wait()
            begun = time.perf_counter()
            end, rounds = begun + seconds, 0
            while (now := time.perf_counter()) < end:
                for step in steps:
                    step()
                rounds += 1
            rates[number] = rounds / (now - begun)

        workers = [threading.Thread(target=loop, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)

    def _plan(self, operations: Mapping[str, int]) -> list[_Step]:
        """The operations of one payment on sessions of their own, handles looked up."""
        sessions = {label: Session(self._module.token(label).open()) for label in _TOKENS}
        steps: dict[str, _Step] = {}
        for template, operation in _OPERATION_OF.items():
            ref = self._keys[template]
            session = sessions[ref.token]
            steps[operation] = self._step(operation, session, session.key(ref))
        if unknown := operations.keys() - steps.keys():
            raise BenchmarkFailed(f"this benchmark has no loop for {', '.join(sorted(unknown))}")
        return [steps[operation] for operation, count in operations.items() for _ in range(count)]

    def _step(self, operation: str, session: Session, key: Any) -> _Step:
        if operation in {MERCHANT_SIGNATURE, GATEWAY_SIGNATURE}:
            digest = os.urandom(32)
            return lambda: key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=_PSS, buffer_size=1024)
        if operation == TIME_STAMP:
            imprint = os.urandom(32)
            return lambda: key.sign(imprint, mechanism=Mechanism.ECDSA, buffer_size=64)
        if operation == "unwrap":
            return lambda: self._open_order(key)
        if operation == "gcm-encrypt":
            pan = os.urandom(16)

            def seal() -> None:
                nonce = session.raw.generate_random(96)
                key.encrypt(pan, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bytes(31), 128))

            return seal
        if operation == "pin-block":
            block = os.urandom(8)
            return lambda: key.encrypt(block, mechanism=Mechanism.DES3_ECB, buffer_size=8)
        message = os.urandom(_ISO_8583_BYTES)
        return lambda: key.sign(message, mechanism=Mechanism.AES_CMAC, buffer_size=16)

    def _open_order(self, private: Any) -> None:
        encrypted_key, nonce, ciphertext = self._sealed
        content_key = private.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.AES,
            encrypted_key,
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=_OAEP[self._suite][1],
            template=_CONTENT_KEY,
        )
        content_key.decrypt(
            ciphertext,
            mechanism=Mechanism.AES_GCM,
            mechanism_param=GCMParams(nonce, None, 128),
            buffer_size=len(ciphertext),
        )
        content_key.destroy()

    def _seal_order(self) -> tuple[str, tuple[bytes, bytes, bytes]]:
        """An order sealed to the OPEN key with the strongest suite that its token can do, as wallets do."""
        ref = self._keys["gateway-encryption"]
        token = self._tokens[ref.token]
        suite = next(name for name in reversed(_OAEP) if token.capabilities.supports(name))
        public = token.public_key(ref)
        assert isinstance(public, rsa.RSAPublicKey)
        hash_ = _OAEP[suite][0]
        content_key, nonce = os.urandom(32), os.urandom(12)
        encrypted_key = public.encrypt(content_key, padding.OAEP(padding.MGF1(hash_), hash_, None))
        return suite, (encrypted_key, nonce, AESGCM(content_key).encrypt(nonce, os.urandom(_ORDER_BYTES), None))

    def _key(self, name: str) -> KeyRef:
        """The key made from the template `name`; made now if there is none."""
        template = built_in()[name]
        token = self._tokens[template.token]
        return token.find(label=name) or _make(token, name, template.algorithm)


_OPERATION_OF: Final = {
    "merchant-signing": MERCHANT_SIGNATURE,
    "gateway-signing": GATEWAY_SIGNATURE,
    "timestamp-authority": TIME_STAMP,
    "gateway-encryption": "unwrap",
    "gateway-vault": "gcm-encrypt",
    "gateway-card-ids": "digest",
    "zone-pin": "pin-block",
    "zone-mac": "mac",
}
"""By template: the operation of the service's counter that its key does."""


def _make(token: Token, name: str, algorithm: str) -> KeyRef:
    if algorithm.startswith("rsa-"):
        usage = Usage.OPEN if name == "gateway-encryption" else Usage.SIGN
        return token.generate_rsa(name, int(algorithm.removeprefix("rsa-")), usage=usage)[0]
    if algorithm == "ec-p256":
        return token.generate_ec(name)[0]
    if algorithm == "aes-256":
        usage = Usage.DIGEST if name == "gateway-card-ids" else Usage.SEAL
        return token.generate_aes(name, 256, usage=usage)
    kind, usage = (KeyKind.DES2, Usage.PIN_BLOCK) if algorithm == "des2" else (KeyKind.AES, Usage.MAC)
    return token.import_zone_key(name, kind, [Secret(os.urandom(16)), Secret(os.urandom(16))], usage=usage)


def main() -> None:
    bench = Bench(Home(Path(sys.argv[1])))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps({"per_second": bench.run(**json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
