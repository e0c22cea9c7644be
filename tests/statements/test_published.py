"""The register that a service believes: what it takes in while it runs, what it refuses, what it never gives up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from cps.dossier import CpsPin
from cps.packs import published
from pki.crl import CrlSet
from pki.path import Trust
from statements.files import PublicationFiles, install
from statements.published import RETRY, PublishedStatements, founding_only, name_of
from tests.support.cps_cases import DAY, MINUTE, Office
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.publications import HOUR, Press, grandfathering

FOUNDING = published()
NAME = "kwbp-cps-1.1.0"


@pytest.fixture(scope="module")
def press() -> Press:
    return Press(Office())


@pytest.fixture(scope="module")
def second(press: Press) -> PublicationFiles:
    return press.files()


class Service:
    """A service that reads `cps` and keeps what it accepted in `own`, with a clock and lists to be set."""

    def __init__(self, folder: Path, trust: Callable[[], Trust]) -> None:
        self.cps = folder / "cps"
        self.cps.mkdir(exist_ok=True)
        self.own = folder / "own"
        self.now = NOW
        self.trust = trust
        self.statements = self.restarted()

    def restarted(self) -> PublishedStatements:
        self.statements = PublishedStatements(
            self.cps, own=self.own, trust=lambda: self.trust(), clock=lambda: self.now
        )
        return self.statements

    def versions(self) -> list[str]:
        return [pack.cps.version for pack in self.statements.refresh().packs]

    def faults(self) -> dict[str, str]:
        self.statements.refresh()
        return {each.name: each.reason for each in self.statements.faults}

    def later(self, now: datetime) -> None:
        self.now = now


@pytest.fixture
def service(tmp_path: Path, press: Press) -> Service:
    return Service(tmp_path, press.office.pki.trust)


def test_where_nothing_was_published_the_founding_version_is_in_force(service: Service) -> None:
    assert service.statements().packs == founding_only()().packs == (FOUNDING,)
    shutil.rmtree(service.cps)
    assert service.versions() == ["1.0.0"]
    assert service.statements.details == {"in_force": "kwbp-cps-1.0.0", "newest": "kwbp-cps-1.0.0", "faults": {}}


def test_a_service_takes_in_a_version_while_it_runs(service: Service, second: PublicationFiles) -> None:
    assert service.versions() == ["1.0.0"]
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert service.statements.details["in_force"] == "kwbp-cps-1.0.0"
    service.later(NOW + HOUR)
    assert service.statements.details == {"in_force": NAME, "newest": NAME, "faults": {}}


def test_asking_is_enough(service: Service, second: PublicationFiles) -> None:
    service.statements()
    install(service.cps, NAME, second)
    while len(service.statements().packs) < 2:
        service.statements.refresh()
    assert name_of(service.statements().newest) == NAME


def test_a_version_follows_a_version(service: Service, press: Press, second: PublicationFiles) -> None:
    third = press.files("1.2.0", after=2 * HOUR, predecessor=second.candidate().pack)
    install(service.cps, "kwbp-cps-1.2.0", third)
    assert service.versions() == ["1.0.0"]
    assert "it is about another publication: supersedes" in service.faults()["kwbp-cps-1.2.0"]
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0", "1.1.0", "1.2.0"]
    assert service.faults() == {}


def test_of_two_that_follow_the_same_the_first_stays(service: Service, press: Press, second: PublicationFiles) -> None:
    """Also after a restart, and though the other has the smaller number."""
    fork = press.files("1.0.5")
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0", "1.1.0"]
    install(service.cps, "kwbp-cps-1.0.5", fork)
    for _time in range(2):
        assert service.versions() == ["1.0.0", "1.1.0"]
        assert "version 1.0.5 does not come after version 1.1.0" in service.faults()["kwbp-cps-1.0.5"]
        service.restarted()


def test_a_folder_that_is_damaged_later_brings_back_no_older_version(
    service: Service, second: PublicationFiles
) -> None:
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0", "1.1.0"]
    (service.cps / NAME / "pack.yaml").write_bytes(b"")
    assert service.versions() == ["1.0.0", "1.1.0"]
    service.restarted()
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert NAME in service.faults()
    shutil.rmtree(service.cps / NAME)
    service.restarted()
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert service.faults() == {}


def test_another_version_of_a_name_is_refused(service: Service, press: Press, second: PublicationFiles) -> None:
    install(service.cps, NAME, second)
    service.versions()
    shutil.rmtree(service.cps / NAME)
    install(service.cps, NAME, press.files(changes={"retention_years: 7": "retention_years: 8"}))
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert service.faults() == {NAME: "another version of this name was accepted before"}
    assert service.statements().newest.digest == second.candidate().pack.digest


def test_what_is_broken_is_told_and_mended_later(service: Service, second: PublicationFiles) -> None:
    folder = service.cps / NAME
    install(service.cps, NAME, second)
    whole = (folder / "pack.yaml").read_bytes()
    (folder / "pack.yaml").write_bytes(whole[:1000])
    assert service.versions() == ["1.0.0"]
    assert list(service.faults()) == [NAME]
    (folder / "pack.yaml").write_bytes(whole)
    service.later(NOW + RETRY)
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert service.faults() == {}


def test_a_draft_is_not_read(service: Service, second: PublicationFiles) -> None:
    install(service.cps, ".kwbp-cps-1.1.0.draft", second)
    assert service.versions() == ["1.0.0"]
    assert service.faults() == {}


def test_a_folder_is_named_after_what_it_holds(service: Service, second: PublicationFiles) -> None:
    install(service.cps, "kwbp-cps-9.9.9", second)
    assert service.versions() == ["1.0.0"]
    assert service.faults() == {"kwbp-cps-9.9.9": f"it holds {NAME}"}


@pytest.mark.parametrize("missing", ["signature", "stamp"])
def test_what_is_not_signed_or_stamped_is_refused(
    service: Service, press: Press, second: PublicationFiles, missing: str
) -> None:
    less = press.files("1.1.0", press.office.security) if missing == "signature" else replace(second, stamp=b"\x30\x00")
    install(service.cps, NAME, less)
    assert service.versions() == ["1.0.0"]
    reason = service.faults()[NAME]
    assert "it misses 1 signatures that count" in reason if missing == "signature" else "stamp" in reason


def test_a_version_waits_for_the_lists_by_which_its_signers_are_judged(
    service: Service, press: Press, second: PublicationFiles
) -> None:
    def nothing() -> Trust:
        raise OSError

    service.trust = nothing
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0"]
    assert service.faults() == {NAME: "it cannot be judged: OSError"}
    service.trust = press.office.pki.trust
    service.later(NOW + RETRY)
    assert service.versions() == ["1.0.0", "1.1.0"]


def test_a_signer_who_was_revoked_before_the_stamp_published_nothing(tmp_path: Path) -> None:
    here = Office(PkiFactory())
    service = Service(tmp_path, here.pki.trust)
    install(service.cps, NAME, Press(here).files())
    here.pki.revoke(here.security, at=NOW - MINUTE)
    assert service.versions() == ["1.0.0"]
    assert "CPS 5.2.3 DEC-CREDENTIAL" in service.faults()[NAME]


def test_a_signer_who_is_revoked_later_takes_nothing_back(tmp_path: Path) -> None:
    here = Office(PkiFactory())
    service = Service(tmp_path, here.pki.trust)
    install(service.cps, NAME, Press(here).files())
    here.pki.revoke(here.security, at=NOW + MINUTE)
    service.later(NOW + DAY)
    service.trust = lambda: here.pki.trust(NOW + DAY)
    assert service.versions() == ["1.0.0", "1.1.0"]


def test_a_signer_who_is_revoked_later_for_a_time_before_takes_nothing_back(tmp_path: Path) -> None:
    """One officer alone states since when a key was in doubt: no restart brings back an older version."""
    here = Office(PkiFactory())
    service = Service(tmp_path, here.pki.trust)
    install(service.cps, NAME, Press(here).files())
    assert service.versions() == ["1.0.0", "1.1.0"]
    here.pki.revoke(here.security, at=NOW - MINUTE)
    service.restarted()
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert service.faults() == {}


def test_lists_that_are_missing_bring_back_no_older_version(
    service: Service, press: Press, second: PublicationFiles
) -> None:
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0", "1.1.0"]
    service.trust = lambda: replace(press.office.pki.trust(), crls=CrlSet())
    service.restarted()
    assert service.versions() == ["1.0.0", "1.1.0"]


def test_what_nobody_signed_is_not_believed_from_the_own_copy(
    service: Service, press: Press, second: PublicationFiles
) -> None:
    install(service.own, NAME, press.files("1.1.0", press.office.security))
    assert service.restarted().refresh().packs == (FOUNDING,)
    assert "it misses 1 signatures that count" in service.faults()[NAME]


def test_a_copy_that_cannot_be_kept_keeps_nothing_from_serving(service: Service, second: PublicationFiles) -> None:
    service.own.write_bytes(b"a file")
    install(service.cps, NAME, second)
    assert service.versions() == ["1.0.0", "1.1.0"]
    assert service.faults() == {"own": "Not a directory"}


def test_a_service_without_a_folder_of_its_own_reads_what_is_published(
    service: Service, press: Press, second: PublicationFiles
) -> None:
    install(service.cps, NAME, second)
    reader = PublishedStatements(service.cps, trust=press.office.pki.trust, clock=lambda: NOW)
    assert reader().newest.cps.version == "1.1.0"


def test_open_cases_are_finished_until_the_date_and_not_after(service: Service, press: Press) -> None:
    until = NOW + 2 * DAY
    install(service.cps, NAME, press.files(on_supersede=grandfathering(until)))
    register = service.statements.refresh()
    mine = CpsPin.of(FOUNDING)
    assert register.governing(mine, until - MINUTE).cps.version == "1.0.0"
    assert register.governing(mine, until).cps.version == "1.1.0"
