"""A registration authority that answers the protocol's messages, the banks behind it, and wallets in front, for tests.

    site = RegistrationSite(tmp_path, office)
    card = site.new_card()
    answer = site.enrol(card)                              # CardCInitReq to CertRes, over the RA's own application

All parts are the real ones (`RaWorld` with its CA, the simulator's `CardRegistration`), called without sockets.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kwbp.registration.answer import CheckedAnswer
from pki.path import Trust
from ra.app import create_app
from ra.issuer_banks import HttpIssuerBanks
from ra.rate_limit import AddressLimits, RateLimits, rate_limits
from ra.registration import RegistrationDesk
from ra.registration_store import RegistrationStore
from runtime.database import open_database
from runtime.secrets import write_secret
from runtime.settings import Home, SwitchSettings
from storefront.wallet.registration import CardInWallet, OpenRequest, Registrar, compose, new_one_time_key, open_request
from switch.bank import transact_on
from switch.records import IssuedCard
from switch.registration import CardRegistration
from switch.registration_app import create_app as create_bank_app
from switch.service import database_path, issuer_keys, open_bank
from tests.support.cps_cases import BIN, Office
from tests.support.pki_factory import p256, rsa_key
from tests.support.ra_world import InProcess, RaWorld, as_caller

GENEROUS = rate_limits().model_copy(update={"cards": rate_limits().cards.model_copy(update={"burst": 3})})


@cache
def _one_time_key(_number: int) -> rsa.RSAPrivateKey:
    """Slow to make, therefore made once and shared."""
    return new_one_time_key()


class InProcessBanks(HttpIssuerBanks):
    """The RA's own client on the banks' own application, without a socket between; counts what is asked."""

    def __init__(self, registration: CardRegistration) -> None:
        self._http = httpx.Client(transport=InProcess(create_bank_app(registration)), base_url="http://bank/")
        self.asked = 0
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def confirm(self, bin_: str, request: bytes) -> tuple[bytes, int | None]:
        self.asked += 1
        self.before()
        answer = super().confirm(bin_, request)
        self.after()
        return answer


@dataclass
class NewCard:
    """A card in somebody's hand, and what the wallet made for it."""

    issued: IssuedCard
    held: CardInWallet


class RegistrationSite:
    """The parts, over `folder`; another one over the same folder and office is the site after a restart."""

    def __init__(
        self, folder: Path, office: Office, *, limits: RateLimits = GENEROUS, database: str | None = None
    ) -> None:
        self.folder = folder
        self.office = office
        self.world = RaWorld(folder, office, database=database)
        self.home = Home(folder / "bank")
        self.home.create()
        if not (self.home.tls / f"issuer-{BIN}.pem").exists():
            office.bank.write(self.home.tls, f"issuer-{BIN}")
            key = rsa_key(8).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_secret(self.home.secrets / f"issuer-{BIN}-sealing-key", key)  # making one takes a second
        self.bank = open_bank(self.home, clock=self.world.clock)
        self.bank_engine = open_database(database_path(self.home))
        registration = CardRegistration(
            transact_on(self.bank_engine),
            issuer_keys(self.home),
            home=self.home,
            trust=lambda _now: self.world.trust_source(),
            rate=SwitchSettings().registrations,
            rng=os.urandom,
            clock=self.world.clock,
        )
        self.banks = InProcessBanks(registration)
        self.store = RegistrationStore(self.world.engine)
        self.desk = RegistrationDesk(
            self.world.workflow, self.store, banks=self.banks, limits=limits, secret=bytes(range(32))
        )
        self.app = create_app(
            self.world.workflow,
            registration=self.desk,
            limits=AddressLimits(limits, clock=self.world.clock),
        )
        self.http = httpx.Client(transport=InProcess(self.app), base_url="http://ra")
        self._used = 0

    def close(self) -> None:
        self.http.close()
        self.banks.close()
        self.bank_engine.dispose()
        self.world.close()

    def trust(self, _now: datetime) -> Trust:
        return self.world.trust_source()

    def as_caller(self, caller: Any) -> httpx.Client:
        """A client that TLS knows by a certificate."""
        return httpx.Client(transport=InProcess(as_caller(self.app, caller)), base_url="http://ra")

    def registrar(self, client: httpx.Client | None = None) -> Registrar:
        return Registrar(
            client or self.http,
            root=self.office.pki.root.certificate,
            trust=self.trust,
            rng=os.urandom,
            clock=self.world.clock,
        )

    # A wallet without its file

    def new_card(self) -> NewCard:
        account = self.bank.open_account(BIN, holder="Member One")
        issued = self.bank.issue_card(account.iban)
        return NewCard(issued, CardInWallet(issued.pan, issued.expiry, os.urandom(32), p256()))

    def request(self, card: NewCard, **changes: Any) -> OpenRequest:
        """A CertReq for the card; `changes` go to what its holder types."""
        form = self.registrar().form(BIN)
        typed = {"pin2": card.issued.pin2, "cvv2": card.issued.cvv2, **changes}
        kept = compose(
            card.held, form, now=self.world.now, rng=os.urandom, one_time_key=self.next_one_time_key, **typed
        )
        return open_request(kept, card.held.key.public_key())

    def next_one_time_key(self) -> rsa.RSAPrivateKey:
        """One that this site has not seen; another site may have, in the same process."""
        self._used += 1
        return _one_time_key(self._used)

    def enrol(self, card: NewCard) -> CheckedAnswer:
        return self.registrar().certificate(self.request(card))

    def other_key(self, card: NewCard) -> NewCard:
        """The same card in another wallet."""
        return NewCard(card.issued, replace(card.held, card_secret=os.urandom(32), key=p256()))
