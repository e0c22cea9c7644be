"""The record of the vault: intents, outcomes, refusals, and what a killed process leaves behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from audit import verify
from hsm_service.errors import TokenBusy
from hsm_service.lending import Running
from hsm_service.service import SignCommand
from hsm_service.steps import AsyncRunner, Call, Steps, Turn
from hsm_service.templates import Operation, built_in
from hsm_service.tokens import Token
from hsm_service.typed_cms import ContentValidator
from hsm_service.vault import Vault
from runtime.problems import Problem
from tests.support.pki_factory import NOW
from tests.support.signing_site import (
    ACK,
    CA,
    CEREMONY,
    GATEWAY,
    SHOP,
    World,
    acknowledgement,
    crl,
    refusal,
    tbs,
)
from tests.support.softhsm import run_python

OWN_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


# -- the record --------------------------------------------------------------------------------------------------------


def test_every_signature_has_an_intent_and_an_outcome(world: World, vault: Vault) -> None:
    answer = vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
    intent, outcome = world.journal()[-2:]
    assert intent["event"] == "intent"
    assert (intent["caller"], intent["operation"], intent["keys"]) == (SHOP, "cms", ["shop-ec/1"])
    assert (intent["content_type"], intent["policy"]) == (ACK, built_in().digest)
    assert (outcome["event"], outcome["result"]) == ("outcome", "done")
    assert outcome["intent"] == answer.log_index - 1
    assert outcome["output_sha256"] == _sha256(answer.signed)
    assert intent["input_sha256"] == _sha256(acknowledgement())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_record_holds_digests_and_no_content(world: World, vault: Vault) -> None:
    vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
    text = json.dumps(world.journal())
    assert acknowledgement().hex() not in text
    assert "0102030405060708" not in text  # a component of the zone keys


def test_an_intent_is_on_the_disk_before_the_token_is_called(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    sign = Token.sign_ecdsa_digest

    def watched(self: Token, *arguments: Any) -> bytes:
        seen.append(world.journal()[-1])
        return sign(self, *arguments)

    monkeypatch.setattr(Token, "sign_ecdsa_digest", watched)
    with world.vault() as vault:
        vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
    assert [entry["event"] for entry in seen] == ["intent"]


def test_what_cannot_be_recorded_is_not_signed(vault: Vault) -> None:
    token, ref = vault.key("shop-ec").use()
    before = token.uses(ref)
    assert vault.ready
    vault.journal.close()
    problem = refusal(lambda: vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement()), 503, "journal-unavailable")
    assert problem.headers == {"Retry-After": "5"}
    refusal(lambda: vault.sign_certificate(CEREMONY, "merchant-ca", tbs(vault)), 503, "journal-unavailable")
    assert token.uses(ref) == before
    assert not vault.ready


def test_a_tokens_trouble_is_recorded_and_gives_the_numbers_back(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_arguments: Any) -> bytes:
        raise TokenBusy("every session is in use")

    with monkeypatch.context() as patched:
        patched.setattr(Token, "sign_pkcs1v15_digest", busy)
        refusal(lambda: vault.sign_crl(CA, "merchant-ca", crl(vault, 9)), 503, "token-busy")
        refusal(lambda: vault.sign_certificate(CEREMONY, "merchant-ca", tbs(vault, serial=1 << 99)), 503, "token-busy")
    assert world.journal()[-1]["result"] == "failed"
    assert world.journal()[-1]["reason"] == "token-busy"
    vault.sign_crl(CA, "merchant-ca", crl(vault, 9, revoked=[(1, NOW)]))
    vault.sign_certificate(CEREMONY, "merchant-ca", tbs(vault, serial=1 << 99, public=OWN_KEY))


def test_a_judge_that_breaks_is_recorded_and_nothing_is_signed(world: World) -> None:
    def broken(_content: bytes, _signer: x509.Certificate) -> None:
        raise KeyError("surprise")

    judges: dict[str, ContentValidator] = {ACK: broken}
    with world.vault(content_types=judges) as vault:
        before = vault.describe_key(SHOP, "shop-ec").uses
        with pytest.raises(KeyError):
            vault.sign_cms(SHOP, "shop-ec", ACK, acknowledgement())
        assert vault.describe_key(SHOP, "shop-ec").uses == before
    assert (world.journal()[-1]["event"], world.journal()[-1]["reason"]) == ("refused", "internal")


_KILLED_BETWEEN_INTENT_AND_OUTCOME = """
import os, signal, sys
from pathlib import Path
from hsm_service.tokens import Token
from runtime.settings import Home
from tests.support.pki_factory import NOW
from tests.support.signing_site import *

sign = Token.sign_pkcs1v15_digest
def signed_and_killed(self, *arguments):
    sign(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Token.sign_pkcs1v15_digest = signed_and_killed
with World(Home(Path(sys.argv[1])), None).vault() as vault:
    pair = vault.key("merchant-ca").pair()
    vault.sign_crl("service:ca", "merchant-ca", crl_tbs(pair.certificate, pair.public_key, number=8))
"""


def test_a_process_killed_between_intent_and_outcome_leaves_a_whole_journal(world: World) -> None:
    died = run_python(_KILLED_BETWEEN_INTENT_AND_OUTCOME, world.home.path)
    assert died.returncode == -9, died.stderr
    assert verify(world.home.audit / "hsm.jsonl").torn == b""
    last = world.journal()[-1]
    assert (last["event"], last["crl_number"]) == ("intent", "8")
    with world.vault() as vault:
        # it may have been signed, so the number counts as used
        other = crl(vault, 8, revoked=[(1, NOW)])
        refusal(lambda: vault.sign_crl(CA, "merchant-ca", other), 409, "crl-number-not-larger")
        vault.sign_crl(CA, "merchant-ca", crl(vault, 8))


def test_a_journal_that_was_tampered_with_keeps_the_vault_shut(world: World) -> None:
    path = world.home.audit / "hsm.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    with pytest.raises(Exception, match="entry 3: bad-index"):
        world.vault()
    path.write_bytes(b"".join(lines))
    world.vault().close()


# -- plug-ins ----------------------------------------------------------------------------------------------------------


def test_a_plug_in_uses_keys_in_one_recorded_operation(world: World, vault: Vault) -> None:
    keys = {"gateway-vault": Operation.SEAL, "zone-mac": Operation.MAC}
    with vault.lending.operation(
        GATEWAY, "seal-and-mac", keys, input_sha256=bytes(32), fields={"order": "1"}
    ) as running:
        vault_key, mac_key = running.keys["gateway-vault"], running.keys["zone-mac"]
        sealed = vault_key.token.aes_gcm_encrypt(vault_key.ref, b"clear", b"")
        mac_key.token.aes_cmac(mac_key.ref, sealed)
        running.outcome.output_sha256 = _sha256(sealed)
    intent, outcome = world.journal()[-2:]
    assert (intent["operation"], intent["keys"]) == ("seal-and-mac", ["gateway-vault/1", "zone-mac/1"])
    assert (intent["order"], intent["input_sha256"]) == ("1", "00" * 32)
    assert outcome["output_sha256"] == _sha256(sealed)


@pytest.mark.parametrize(
    ("caller", "keys", "status", "slug"),
    [
        (SHOP, {"zone-mac": Operation.MAC}, 403, "caller-not-allowed"),
        ("anonymous", {"zone-mac": Operation.MAC}, 401, "client-certificate-required"),
        (GATEWAY, {"zone-mac": Operation.PIN_BLOCK}, 409, "key-misused"),
        (GATEWAY, {"zone-mac": Operation.MAC, "shop": Operation.CMS}, 403, "caller-not-allowed"),
        (GATEWAY, {"zone-mac": Operation.MAC, "nobody": Operation.MAC}, 404, "key-not-found"),
    ],
)
def test_a_plug_in_gets_no_key_that_its_caller_may_not_use(
    caller: str, keys: dict[str, Operation], status: int, slug: str, world: World, vault: Vault
) -> None:
    def attempt() -> None:
        with vault.lending.operation(caller, "plug", keys, input_sha256=None):
            pytest.fail("nothing runs")

    refusal(attempt, status, slug)
    assert world.journal()[-1]["event"] == "refused"


def test_a_plug_ins_failure_is_recorded_and_a_tokens_trouble_leaves_as_a_problem(world: World, vault: Vault) -> None:
    def attempt(error: Exception) -> None:
        with vault.lending.operation(GATEWAY, "plug", {"zone-mac": Operation.MAC}, input_sha256=None):
            raise error

    refusal(lambda: attempt(TokenBusy("busy")), 503, "token-busy")
    assert world.journal()[-1]["reason"] == "token-busy"
    with pytest.raises(ZeroDivisionError):
        attempt(ZeroDivisionError())
    assert world.journal()[-1]["reason"] == "internal"


def test_in_steps_a_plug_in_is_recorded_and_refused_alike(world: World, vault: Vault) -> None:
    def work(running: Running) -> Steps[bytes]:
        key = running.keys["zone-mac"]
        mac: bytes = yield Call(key.token, "aes_cmac", (key.ref, b"message"))
        running.outcome.output_sha256 = _sha256(mac)
        return mac

    keys = {"zone-mac": Operation.MAC}
    mac = vault.run(vault.lending.steps(GATEWAY, "mac", keys, work, input_sha256=bytes(32)))
    intent, outcome = world.journal()[-2:]
    assert (intent["operation"], intent["keys"], intent["input_sha256"]) == ("mac", ["zone-mac/1"], "00" * 32)
    assert outcome["output_sha256"] == _sha256(mac)
    recorded = len(world.journal())
    for caller, status, slug in ((SHOP, 403, "caller-not-allowed"), ("anonymous", 401, "client-certificate-required")):
        steps = vault.lending.steps(caller, "mac", keys, work, input_sha256=None)
        refusal(lambda steps=steps: vault.run(steps), status, slug)  # type: ignore[misc]
    assert [each["event"] for each in world.journal()[recorded:]] == ["refused", "refused"]


def test_a_key_that_was_disabled_while_a_plug_in_waited_for_its_turn_does_nothing(world: World, vault: Vault) -> None:
    def work(_running: Running) -> Steps[None]:
        pytest.fail("nothing runs")
        yield

    steps = vault.lending.steps(GATEWAY, "mac", {"zone-mac": Operation.MAC}, work, input_sha256=None)
    assert isinstance(next(steps), Turn)
    vault.life.disable("ceremony", "zone-mac", 1)
    refusal(lambda: vault.run(_going_on(steps)), 409, "key-not-enabled")
    assert [each["event"] for each in world.journal()[-1:]] == ["refused"]
    vault.life.enable("ceremony", "zone-mac", 1)


def test_what_the_end_does_not_wait_for_is_told_to_nobody_afterwards(world: World) -> None:
    def work(running: Running) -> Steps[None]:
        key = running.keys["zone-mac"]
        yield Call(key.token, "aes_cmac", (key.ref, b"message"))
        vault._recorder.close()  # the end comes while the token works

    with world.vault() as vault:
        before = len(world.journal())
        steps = vault.lending.steps(GATEWAY, "mac", {"zone-mac": Operation.MAC}, work, input_sha256=None)
        refusal(lambda: vault.run(steps), 503, "journal-unavailable")
        with (
            pytest.raises(Problem),
            vault.lending.operation(GATEWAY, "mac", {"zone-mac": Operation.MAC}, input_sha256=None),
        ):
            vault._recorder.close()
    told = [(each["event"], each.get("intent"), each.get("result")) for each in world.journal()[before:]]
    assert told == [
        ("intent", None, None),
        ("outcome", before, "unknown"),
        ("intent", None, None),
        ("outcome", before + 2, "unknown"),
    ]
    with world.vault():
        assert len(world.journal()) == before + 4  # and the next start has nothing to add


def test_of_a_record_that_was_cancelled_on_its_way_the_end_is_told_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.vault() as vault:
        before = len(world.journal())

        async def cancelled() -> None:
            runner = AsyncRunner(vault.journal, asyncio.to_thread)
            steps = vault.signing.sign(SHOP, "shop-ec", SignCommand("cms", acknowledgement(), ACK))
            task = asyncio.ensure_future(runner.run(steps))
            buffer = vault.journal.buffer

            def on_its_way(entry: Any) -> int:
                task.cancel()
                return buffer(entry)

            with monkeypatch.context() as patched:
                patched.setattr(vault.journal, "buffer", on_its_way)
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(cancelled())
    intent, outcome = world.journal()[before:]
    assert (intent["event"], intent["operation"]) == ("intent", "cms")
    assert (outcome["intent"], outcome["result"], outcome["reason"]) == (before, "unknown", "stopped")


def _going_on(steps: Steps[None]) -> Steps[None]:
    """What is left of steps whose first one was done."""
    step, answer = steps.send(None), None
    while True:
        answer = yield step
        step = steps.send(answer)
