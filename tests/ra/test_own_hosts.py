"""No member gets a certificate by which its server passes for a service of the authority."""

from __future__ import annotations

from typing import Any

import pytest

from cps.dossier import GatewaySubject
from cps.packs import published
from cps.rules import Rule
from cps.written_host import check_host
from cps.written_text import TextError
from ra.errors import InvalidSubmissionError
from ra.own_hosts import check_hosts, own_hosts
from ra.states import State
from ra.submission import Submission
from tests.support.cps_cases import GATEWAY, MERCHANT, csr
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject

OWN = own_hosts({"ra": "RA.kwbp.example.", "hsm": "10.0.0.7", "gateway": "pay.kwbp.example", "ca": "127.0.0.1"})


def test_hosts_of_services_are_known_however_the_settings_spell_them_and_loopback_is_nobodys() -> None:
    assert OWN == {"ra.kwbp.example": "ra", "10.0.0.7": "hsm", "pay.kwbp.example": "gateway"}
    assert own_hosts(dict(enumerate_as("localhost", "LOCALHOST.", "a.localhost", "127.9.9.9", "::1", "0.0.0.0"))) == {}  # noqa: S104  # no socket


def enumerate_as(*hosts: str) -> list[tuple[str, str]]:
    return [(str(number), host) for number, host in enumerate(hosts)]


@pytest.mark.parametrize("hosts", [("ra.kwbp.example",), ("shop.example", "10.0.0.7"), ("pay.kwbp.example",)])
def test_a_merchant_is_not_certified_for_the_host_of_a_service(hosts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSubmissionError, match="is of a service of this authority") as refused:
        check_hosts(MERCHANT.model_copy(update={"hosts": hosts}), OWN, published())
    assert refused.value.clause == published().clause(Rule.APP_REQUEST)


def test_a_gateway_has_its_own_host_and_no_other_services() -> None:
    def gateway(*hosts: str) -> GatewaySubject:
        return GATEWAY.model_copy(update={"hosts": hosts})

    check_hosts(gateway("pay.kwbp.example", "bank.example"), OWN, published())
    with pytest.raises(InvalidSubmissionError):
        check_hosts(gateway("ra.kwbp.example"), OWN, published())


def test_the_case_stays_a_draft_and_another_host_is_taken(world: RaWorld) -> None:
    flow: Any = world.workflow
    flow.desk.own_hosts = OWN
    application = flow.open(OPERATOR, "merchant")
    for hosts, state in ((("RA.kwbp.example",), State.DRAFT), (("shop.example",), State.VETTING)):
        submission = Submission(merchant_subject() | {"hosts": list(hosts)}, {"signing": csr(p256())})
        if state is State.DRAFT:
            with pytest.raises(InvalidSubmissionError, match=r"ra\.kwbp\.example"):
                flow.submit(OPERATOR, application.id, submission)
        else:
            flow.submit(OPERATOR, application.id, submission)
        assert world.store.application(application.id).state is state


@pytest.mark.parametrize("identity", ["urn:kwbp:service:ra", "service:ra", "urn:kwbp:merchant:M-2"])
def test_no_host_is_an_identity(identity: str) -> None:
    """Callers are known by a URI in subjectAltName; a host goes there as dNSName or iPAddress, and has no colon."""
    with pytest.raises(TextError):
        check_host(identity)
