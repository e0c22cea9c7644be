"""The HSM service judges by the published versions of the CPS, and takes in a new one while it runs."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from hsm_service.templates import TemplatesError
from hsm_service.vault import Vault
from statements.files import install
from tests.support.approved import Desk
from tests.support.pki_factory import NOW
from tests.support.publications import HOUR, Press, grandfathering
from tests.support.signing_site import CA, World, refusal

KEY = "merchant-ca-ec"
NAME = "kwbp-cps-1.1.0"


class Site:
    """An open vault with a clock to be set, and the office whose cases it judges."""

    def __init__(self, world: World) -> None:
        self.now = NOW
        self.desk = Desk(world.pki)
        self.press = Press(self.desk.office)
        self.cps = world.home.cps
        self.vault: Vault = world.vault(clock=lambda: self.now)

    def certify(self) -> None:
        """Sign a certificate for a case of the founding version."""
        case = self.desk.merchant()
        issuer = self.vault.key(KEY).pair()
        tbs = self.desk.tbs(case, issuer.certificate, issuer.public_key)
        self.vault.sign_certificate(CA, KEY, tbs, basis=self.desk.basis(case))

    def until(self, name: str) -> None:
        """Ask until the newest version is this one: it is read beside the work."""
        while self.vault.statement()["newest"] != name:
            time.sleep(0.01)

    def forward(self, now: datetime) -> None:
        self.now = now


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def test_a_version_that_comes_into_force_while_it_runs_ends_cases_of_the_one_before(site: Site) -> None:
    with site.vault:
        assert site.vault.statement() == {"in_force": "kwbp-cps-1.0.0", "newest": "kwbp-cps-1.0.0", "faults": {}}
        install(site.cps, NAME, site.press.files())
        site.until(NAME)
        site.certify()
        site.forward(NOW + HOUR)
        assert refusal(site.certify, 422, "not-approved").clause == "CPS 9.12.1"


def test_open_cases_are_finished_until_the_date_and_not_after(site: Site) -> None:
    with site.vault:
        install(site.cps, NAME, site.press.files(on_supersede=grandfathering(NOW + 3 * HOUR)))
        site.until(NAME)
        site.forward(NOW + 2 * HOUR)
        site.certify()
        site.forward(NOW + 3 * HOUR)
        assert refusal(site.certify, 422, "not-approved").clause == "CPS 9.12.1"


def test_what_does_not_hold_is_told_and_changes_nothing(site: Site) -> None:
    install(site.cps, NAME, site.press.files("1.1.0", site.desk.office.security))
    with site.vault:
        site.certify()
        site.forward(NOW + 2 * HOUR)
        site.certify()
        while not site.vault.statement()["faults"]:
            time.sleep(0.01)
        assert site.vault.statement()["in_force"] == "kwbp-cps-1.0.0"


def test_a_version_without_the_roles_that_approve_operations_on_keys_lets_no_service_start(
    site: Site, world: World
) -> None:
    """Its publication is refused where it is signed (`cps.document_check`); here somebody published it nevertheless."""
    security = (site.desk.office.security, site.desk.office.security_2)
    install(site.cps, NAME, site.press.files("1.1.0", *security, changes={"security_officer": "custodian"}))
    with site.vault:
        site.until(NAME)
    world.vault(clock=lambda: site.now).close()
    site.forward(NOW + HOUR)
    with pytest.raises(TemplatesError, match=r"kwbp-cps 1\.1\.0 does not have: security_officer \(CPS 5\.2\.1\)"):
        world.vault(clock=lambda: site.now)
    site.forward(NOW)
    world.vault(clock=lambda: site.now).close()
