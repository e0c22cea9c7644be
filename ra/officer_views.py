"""What callers are shown of the register of officers: who there is, what they may do now, how their credentials stand.

Whether a credential counts is asked of the path and the lists in force, never of a column.
"""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import PathError
from pki.path import Trust, validate_path
from pki.roles import Role
from ra.errors import UnknownError
from ra.persons import Credential, Person
from ra.wire import CredentialView, GrantView, OfficerView
from ra.workflow import Workflow

COUNTS = "counts"


def officers(workflow: Workflow) -> list[OfficerView]:
    """Everybody in the register, by person id."""
    now = workflow.now
    trust = workflow.trust(now)
    return [_officer(person, trust, now) for person in workflow.persons.all()]


def officer(workflow: Workflow, person_id: str) -> OfficerView:
    """One person; raises UnknownError."""
    person = workflow.persons.get(person_id)
    if person is None:
        raise UnknownError("there is no officer of this id")
    now = workflow.now
    return _officer(person, workflow.trust(now), now)


def _officer(person: Person, trust: Trust, now: datetime) -> OfficerView:
    views = tuple(_credential(each, trust, now) for each in person.credentials)
    return OfficerView(
        person_id=person.id,
        name=person.name,
        organisation=person.organisation,
        account=person.account,
        account_open=any(each.state == COUNTS for each in views),
        known_since=person.known_since,
        identified=person.identified,
        roles=tuple(sorted({grant.role for each in views for grant in each.grants if grant.in_effect})),
        credentials=views,
    )


def _credential(credential: Credential, trust: Trust, now: datetime) -> CredentialView:
    state = COUNTS
    try:
        validate_path(credential.certificate, trust=trust, now=now, roles={Role.OFFICER})
    except PathError as error:
        state = error.reason
    return CredentialView(
        issuer=credential.issuer,
        serial=credential.serial,
        spki_sha256=bytes.fromhex(credential.spki_sha256),
        application_id=credential.application_id,
        not_before=credential.not_before,
        not_after=credential.not_after,
        state=state,
        grants=tuple(
            GrantView(
                role=each.role,
                scope=each.scope,
                not_before=each.not_before,
                not_after=each.not_after,
                in_effect=state == COUNTS and each.not_before <= now < each.not_after,
            )
            for each in credential.grants
        ),
        certificate=credential.certificate.public_bytes(Encoding.DER),
    )
