"""`kill -9` of the signing service, again and again, while many sign: what a client holds is in the journal.

No signature is released without its record, none is recorded twice, and the journal opens and verifies afterwards.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from audit import read, verify
from hsm_service.client import HsmClient
from hsm_service.pkcs11_module import find_module
from hsm_service.provision import provision_tokens
from hsm_service.retry import ONCE
from hsm_service.service import Signed
from hsm_service.token_layout import configuration_of
from pki.roles import Role
from runtime.client import TlsFiles
from runtime.problems import Problem
from runtime.settings import Home
from tests.faults.ckr import CKR
from tests.faults.faulty_module import CRASH, FaultyModule, wait_until
from tests.faults.signing_service import SigningService
from tests.support.pki_factory import PkiFactory
from tests.support.signing_site import (
    ACK,
    World,
    acknowledgement,
    authority_chain,
    crl_tbs,
    der,
    merchant_chain,
    public_key,
)
from tests.support.tls import tls_issuer

KILLS = 3
SHOPS = 4
BETWEEN = 40
"""Signatures that the clients received between two kills, at least."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A merchant's and a CA's P-256 key, with certificates; work on a `copy`."""
    home = Home(tmp_path_factory.mktemp("killed") / "home")
    provision_tokens(home)
    pki = PkiFactory()
    world = World(home, pki)
    with world.vault() as vault:
        ceremony = vault.as_caller("ceremony")
        spki = ceremony.generate_key("shop-ec", "merchant-signing-ec", owner="M-1").public_key
        ceremony.attach_certificate("shop-ec", der(*merchant_chain(pki, "M-1", public_key(spki))))
        spki = ceremony.generate_key("merchant-ca-ec", "issuing-ca-ec").public_key
        chain = authority_chain(pki, "merchant-ca-ec", Role.MERCHANT_CA, public_key(spki))
        ceremony.attach_certificate("merchant-ca-ec", der(*chain))
    return world


class Clients:
    """Merchants who sign acknowledgements and a CA that signs CRLs, and what they received."""

    def __init__(self, url: str, site: World, shop: TlsFiles, ca: TlsFiles) -> None:
        self._url, self._shop, self._ca = url, shop, ca
        with site.vault() as vault:
            self._issuer = vault.key("merchant-ca-ec").pair()
        self._stop = threading.Event()
        self.received: list[Signed] = []
        self.crls: list[Signed] = []
        self.problems: list[Problem] = []
        self.strange: list[BaseException] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They work until the end of the block."""
        works = [self._sign_acknowledgements] * SHOPS + [self._sign_crls]
        threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "a client waits for ever"
        assert self.strange == []

    def go_on(self) -> None:
        """Wait until they received more, CRLs too."""
        signatures, crls = len(self.received) + BETWEEN, len(self.crls) + 2
        wait_until(lambda: self.strange or (len(self.received) >= signatures and len(self.crls) >= crls))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.strange.append(error)

    def _sign_acknowledgements(self) -> None:
        with HsmClient.connect(self._url, self._shop, retry=ONCE) as client:
            while not self._stop.is_set():
                with self._told():
                    self.received.append(client.sign("shop-ec", "cms", acknowledgement(), content_type=ACK))

    def _sign_crls(self) -> None:
        """One number after the other; a number whose answer was lost is asked for once more."""
        with HsmClient.connect(self._url, self._ca, retry=ONCE) as client:
            for number in itertools.count(1):
                tbs = crl_tbs(self._issuer.certificate, self._issuer.public_key, number=number)
                for _attempt in range(2):
                    if self._stop.is_set():
                        return
                    with self._told():
                        self.crls.append(client.sign("merchant-ca-ec", "crl", tbs))
                        break

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Problem as problem:
            self.problems.append(problem)
            self._stop.wait(0.02)


def test_what_a_client_received_is_in_the_journal_whenever_the_service_was_killed(site: World, tmp_path: Path) -> None:
    world = site.copy(tmp_path)
    tls = tls_issuer(tmp_path)
    service = SigningService(world.home, tls("hsm"))
    clients = Clients(
        service.url, world, tls("shop", uri="urn:kwbp:merchant:M-1"), tls("ca", uri="urn:kwbp:service:ca")
    )
    service.start()
    with clients.at_work():
        for _ in range(KILLS):
            clients.go_on()
            service.kill()
            service.start()
        clients.go_on()
    service.stop()

    journal = world.home.audit / "hsm.jsonl"
    verify(journal)
    entries = [dict(each.entry) for each in read(journal)]
    for answer in clients.received + clients.crls:
        outcome = entries[answer.log_index]
        assert (outcome["event"], outcome["result"]) == ("outcome", "done")
        assert outcome["output_sha256"] == hashlib.sha256(answer.signed).hexdigest()
        intent = entries[outcome["intent"]]
        assert (intent["event"], intent["keys"]) == ("intent", [f"{answer.key}/{answer.version}"])

    # Beside what was received there is at most what was under way when the service was killed.
    done = [each for each in entries if each["event"] == "outcome" and each["result"] == "done" and "intent" in each]
    signed = [each for each in done if entries[each["intent"]].get("operation") in {"cms", "crl"}]
    assert len(signed) <= len(clients.received + clients.crls) + KILLS * (SHOPS + 1)
    assert len({each["output_sha256"] for each in signed}) == len(signed)

    # Every intent has one outcome: what was under way at a kill has one that says that nobody knows.
    intents = [number for number, each in enumerate(entries) if each["event"] == "intent"]
    assert sorted(each["intent"] for each in entries if each["event"] == "outcome") == intents
    left = [each["reason"] for each in entries if each.get("result") == "unknown"]
    assert set(left) <= {"process-ended"}
    assert len(left) <= KILLS * (SHOPS + 1)

    numbers = [_number(each.signed) for each in clients.crls]
    assert len(set(numbers)) == len(numbers)
    by_number: dict[str, set[str]] = {}
    for each in signed:
        intent = entries[each["intent"]]
        if "crl_number" in intent:
            by_number.setdefault(intent["crl_number"], set()).add(intent["input_sha256"])
    assert all(len(digests) == 1 for digests in by_number.values())

    # The clients heard of the outage, and of numbers that were signed before; of nothing else.
    assert {problem.status for problem in clients.problems} <= {409, 503}
    with world.vault() as vault:
        assert vault.journal.head.size == len(entries)


def test_a_token_that_crashes_costs_its_own_keys_a_moment_and_no_others_anything(
    site: World, built: Path, tmp_path: Path
) -> None:
    """The merchants' token crashes and is lost inside the running service; the CA's token serves on."""
    world = site.copy(tmp_path)
    faulty = FaultyModule.make(built, tmp_path, find_module())
    tls = tls_issuer(tmp_path)
    service = SigningService(world.home, tls("hsm"))
    clients = Clients(
        service.url, world, tls("shop", uri="urn:kwbp:merchant:M-1"), tls("ca", uri="urn:kwbp:service:ca")
    )
    configuration = configuration_of(world.home, "service")
    world.home.config.write_text(
        f'[tokens.merchants]\nuri = "pkcs11:token=merchants?module-path={faulty.path}"\n'
        f'configuration = "{configuration}"\n'
    )
    service.start()
    with clients.at_work():
        for action in (CRASH, CKR["DEVICE_REMOVED"]):
            clients.go_on()
            told = len(faulty.told())
            faulty.set("C_Sign", action)
            wait_until(lambda told=told: len(faulty.told()) > told)
            crls = len(clients.crls)
            wait_until(lambda crls=crls: clients.strange or len(clients.crls) >= crls + 5)
            faulty.heal()
        clients.go_on()
    service.stop()
    verify(world.home.audit / "hsm.jsonl")
    assert {problem.status for problem in clients.problems} == {503}
    assert all("merchants" in str(problem) or "shop" in str(problem) for problem in clients.problems)


def _number(crl: bytes) -> int:
    return x509.load_der_x509_crl(crl).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
