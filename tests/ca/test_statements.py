"""The CA judges by the published versions of the CPS, and takes in a new one while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ca.errors import NotApprovedError, RevocationRefusedError
from cps.dossier import Dossier
from cps.register import PackRegister
from statements.files import install
from statements.published import PublishedStatements
from tests.support.ca_world import CaWorld, Clock
from tests.support.cps_cases import DAY, MINUTE, Office
from tests.support.publications import HOUR, Press, grandfathering

NAME = "kwbp-cps-1.1.0"
REVOKED_BY = """  keyCompromise:
    section: "4.9.1/keyCompromise"
    deadline: PT24H
    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 1}]"""


class Site:
    """A CA in service, and the folder in which versions are published."""

    def __init__(self, folder: Path, office: Office) -> None:
        self.office = office
        self.cps = folder / "cps"
        clock = Clock(office.now)
        self.statements = PublishedStatements(self.cps, own=folder / "own", trust=office.pki.trust, clock=clock)
        self.statements()
        self.world = CaWorld(folder, office, clock=clock, statements=self.statements)

    def publish(self, **options: Any) -> Office:
        """Publish a version that is in force in an hour; officers who make cases under it."""
        files = Press(self.office).files(**options)
        install(self.cps, NAME, files)
        self.statements.refresh()
        return Office(self.office.pki, files.candidate().pack)

    def issue(self, office: Office) -> str:
        """A merchant's certificate by a case of this office; the CPS pointer in it."""
        record = self.world.authority.issuance.issue(self.approved(office))["signing"]
        policies = record.certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
        [information] = policies
        assert information.policy_qualifiers is not None
        return str(information.policy_qualifiers[0])

    def approved(self, office: Office) -> Dossier:
        at = self.world.clock.now
        case = office.merchant_case(application_id=f"case-{office.pack.cps.version}")
        case = office.decided(case, "vet", office.vetter, date=at)
        return office.decided(case, "approve", office.approver, date=at)

    def refusal(self, office: Office) -> str:
        with pytest.raises(NotApprovedError) as refused:
            self.world.authority.issuance.issue(self.approved(office))
        return str(refused.value)


@pytest.fixture
def site(tmp_path: Path, office: Office) -> Iterator[Site]:
    made = Site(tmp_path, Office(office.pki))
    yield made
    made.world.close()


def test_a_new_version_governs_from_its_date_and_stands_in_the_certificates(site: Site) -> None:
    later = site.publish()
    assert site.issue(site.office) == "urn:kwbp:cps:1.0.0"
    assert "PACK-PIN" in site.refusal(later), "a version of tomorrow governs nothing yet"
    site.world.clock.forward(HOUR)
    assert site.issue(later) == "urn:kwbp:cps:1.1.0"
    assert "PACK-PIN (CPS 9.12.1)" in site.refusal(Office(site.office.pki)), "an old case is made anew first"


def test_open_cases_are_finished_until_the_date_and_not_after(site: Site) -> None:
    site.publish(on_supersede=grandfathering(site.office.now + 3 * HOUR))
    site.world.clock.forward(3 * HOUR - MINUTE)
    assert site.issue(site.office) == "urn:kwbp:cps:1.0.0"
    site.world.clock.forward(MINUTE)
    assert "PACK-PIN (CPS 9.12.1)" in site.refusal(Office(site.office.pki))


def test_what_the_self_audit_finds_of_versions(site: Site) -> None:
    """Cases of both versions are sound; one whose version did not govern it any more is not."""
    later = site.publish()
    site.issue(site.office)
    site.world.clock.forward(HOUR)
    site.issue(later)
    site.world.clock.forward(MINUTE)
    audit = site.world.authority.self_audit
    report = audit.audit(least=10).parsed
    assert (report.issued, report.broken) == (2, 0), report
    assert report.statement == later.pack.digest.hex()
    earlier = PackRegister((site.office.pack, Press(site.office).pack("1.0.1", after=-HOUR)))
    audit._statements = lambda: earlier  # a register in which the first version was superseded before it issued
    [finding] = [each for each in audit.audit(least=10).parsed.findings if each.check == "case"]
    assert finding.message == "it was issued under version 1.0.0, and version 1.0.1 governed"


def test_orders_are_judged_by_the_version_in_force(site: Site) -> None:
    only_security = REVOKED_BY.replace("[vetting_officer, security_officer]", "[security_officer]")
    site.publish(changes={REVOKED_BY: only_security})
    issued = site.world.authority.issuance.issue(site.approved(site.office))["signing"].certificate
    site.world.clock.forward(HOUR)
    now, revocation = site.world.clock.now, site.world.authority.revocation
    with pytest.raises(RevocationRefusedError, match="REV-ROLE"):
        revocation.apply(site.office.revocation(issued, site.office.vetter, date=now))
    assert revocation.apply(site.office.revocation(issued, site.office.security, date=now)).record.state == "revoked"


def test_a_broken_publication_changes_nothing(site: Site) -> None:
    install(site.cps, NAME, Press(site.office).files("1.1.0", site.office.security))
    site.statements.refresh()
    site.world.clock.forward(DAY / 2)
    assert list(site.statements.details["faults"]) == [NAME]  # type: ignore[call-overload]  # a mapping
    assert site.issue(site.office) == "urn:kwbp:cps:1.0.0"
