"""What happens to a signature between its judgement and its turn: keys that are taken out, faults, approvals kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from cryptography import x509

from hsm_service import kinds
from hsm_service.operation_docket import Approving
from hsm_service.service import SignCommand, Signed
from hsm_service.steps import AsyncRunner, Call, Step, Steps, Turn
from hsm_service.typed_crl import FARTHEST_AHEAD
from hsm_service.vault import Vault
from pki import oids
from pki.crl import CrlSet
from pki.path import Trust
from tests.support.pki_factory import NOW
from tests.support.signing_site import ACK, CA, CEREMONY, SHOP, World, acknowledgement, crl, refusal

T = TypeVar("T")
KEY = "shop-ec"
COMMAND = SignCommand("cms", acknowledgement(), ACK)


def after(kind: type[Step], act: Callable[[], object], steps: Steps[T]) -> Steps[T]:
    """The same steps; `act` is done once, after the first of this kind."""
    step, acted = next(steps), False
    while True:
        try:
            result = yield step
            if isinstance(step, kind) and not acted:
                acted = True
                act()
        except Exception as error:
            step = steps.throw(error)
        else:
            try:
                step = steps.send(result)
            except StopIteration as end:
                value: T = end.value
                return value


def disable(vault: Vault, key: str = KEY) -> Callable[[], object]:
    return lambda: vault.life.disable(CEREMONY, key, 1)


def test_a_key_disabled_while_a_signature_waits_for_its_turn_signs_no_more(world: World, vault: Vault) -> None:
    waiting = after(Turn, disable(vault), vault.signing.sign(SHOP, KEY, COMMAND))
    refusal(lambda: vault.run(waiting), 409, "key-not-enabled")
    assert (world.last_entry()["event"], world.last_entry()["reason"]) == ("refused", "key-not-enabled")
    assert not [entry for entry in world.journal() if entry.get("keys") == [f"{KEY}/1"]]


def test_a_list_that_waits_for_its_turn_gives_its_number_back(vault: Vault) -> None:
    waiting = after(
        Turn,
        disable(vault, "merchant-ca-ec"),
        vault.signing.sign(CA, "merchant-ca-ec", SignCommand("crl", crl(vault, 7, "merchant-ca-ec"))),
    )
    refusal(lambda: vault.run(waiting), 409, "key-not-enabled")
    vault.life.enable(CEREMONY, "merchant-ca-ec", 1)
    vault.sign_crl(CA, "merchant-ca-ec", crl(vault, 6, "merchant-ca-ec"))


def test_a_key_disabled_in_the_middle_of_a_batch_signs_no_further_part(world: World, vault: Vault) -> None:
    batch = after(Call, disable(vault), vault.signing.sign_many(SHOP, KEY, [COMMAND] * 251))
    refusal(lambda: vault.run(batch), 409, "key-not-enabled")
    counts = [entry["count"] for entry in world.journal() if entry.get("keys") == [f"{KEY}/1"]]
    assert counts == [250]


def test_a_fault_of_a_judge_is_on_the_record_also_in_a_batch(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any) -> kinds.Job:
        raise ZeroDivisionError

    monkeypatch.setitem(vault.signing._content_types, ACK, broken)
    with pytest.raises(ZeroDivisionError):
        vault.run(vault.signing.sign_many(SHOP, KEY, [COMMAND]))
    assert (world.last_entry()["event"], world.last_entry()["reason"]) == ("refused", "internal")


def test_officers_approvals_are_not_judged_by_a_list_that_was_followed_by_another(world: World) -> None:
    believed: list[x509.CertificateRevocationList] = []
    approving = Approving(lambda: Trust((world.pki.root.certificate,), (), CrlSet([*believed, *others])))
    others = [each for each in world.pki.crls() if each.issuer != world.pki.authorities[0].certificate.subject]
    with world.vault(approving=approving) as vault:
        old, new = (
            x509.load_der_x509_crl(vault.sign_crl(CA, "merchant-ca", crl(vault, number)).signed) for number in (4, 5)
        )
        trust = vault.operations._docket._trust
        believed[:] = [new]
        assert list(trust().crls) == [new, *others]
        believed[:] = [old]
        assert list(trust().crls) == others


def test_a_refused_list_number_is_a_refusal_and_no_fault(vault: Vault) -> None:
    for number in (1 << 15000, 1 << 159, int(NOW.timestamp()) + FARTHEST_AHEAD + 1):
        refused = lambda number=number: vault.sign_crl(CA, "merchant-ca", crl(vault, number))  # noqa: E731
        refusal(refused, 422, "bad-crl-number")
    vault.sign_crl(CA, "merchant-ca", crl(vault, 1))


def test_a_batch_that_takes_long_to_judge_lets_others_in_between(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    seen: list[int] = []
    genuine = vault.signing._content_types[ACK]

    def slow(content: bytes, signer: x509.Certificate) -> None:
        time.sleep(0.003)
        judged.append(len(judged))
        genuine(content, signer)

    async def other(batch: asyncio.Task[Any]) -> None:
        while not batch.done():
            seen.append(len(judged))
            await asyncio.sleep(0)

    async def together() -> None:
        steps = vault.signing.sign_many(SHOP, KEY, [COMMAND] * 20)
        batch = asyncio.create_task(AsyncRunner(vault.journal, asyncio.to_thread).run(steps))
        await other(batch)
        assert len(await batch) == 20

    monkeypatch.setitem(vault.signing._content_types, ACK, slow)
    asyncio.run(together())
    assert {5, 10, 15} <= set(seen)


def test_the_record_of_a_batch_says_what_was_signed(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = oids.CT_RECEIPT.dotted_string
    monkeypatch.setitem(vault.signing._content_types, other, lambda *_arguments: None)
    batch = [COMMAND, SignCommand("cms", b"\x05\x00", other), COMMAND]
    answers = vault.run(vault.signing.sign_many(SHOP, KEY, batch))
    assert all(isinstance(answer, Signed) for answer in answers)
    intents = [entry for entry in world.journal() if entry.get("keys") == [f"{KEY}/1"]]
    assert [(each["content_type"], each["count"]) for each in intents] == [(ACK, 2), (other, 1)]


def test_a_dry_run_says_that_a_key_is_used_up(vault: Vault) -> None:
    vault.life.limit(CEREMONY, KEY, 1, {"uses": 1})

    def check() -> object:
        return vault.run(vault.signing.check(SHOP, KEY, COMMAND))

    check()
    check()
    vault.run(vault.signing.sign(SHOP, KEY, COMMAND))
    refusal(check, 403, "key-used-up")


def test_a_claim_whose_record_met_a_fault_is_given_back(vault: Vault) -> None:
    steps = vault.signing.sign(CA, "merchant-ca-ec", SignCommand("crl", crl(vault, 7, "merchant-ca-ec")))
    assert isinstance(next(steps), Turn)
    steps.send(None)
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError())
    vault.sign_crl(CA, "merchant-ca-ec", crl(vault, 6, "merchant-ca-ec"))
