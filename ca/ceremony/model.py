"""A founding as data: who is founded, under which names, with which keys (`ca/ceremonies/kwbp.yaml`, `root.yaml`).

What is done afterwards to a hierarchy that was founded stands in `ca.ceremony.acts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ca.errors import CeremonyError
from cps.dossier import Host, Text

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Section = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)*$")]
Kind = Literal["founding", "root", "sub-ca", "key", "crl", "rollover", "restore", "destroy"]


class Model(BaseModel):
    """Closed to unknown fields, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Header(Model):
    """Which ceremony this is, and the CPS section that asks for it."""

    id: Name
    kind: Kind
    version: int = Field(ge=1, strict=True)
    section: Section


class AuthorityEntry(Model):
    """A CA: its name (which is that of its key and its file), key template and common name.

    Its `profile` has the same name unless stated; its `issuer` is the profile's unless stated.
    """

    name: Name
    template: Name
    common_name: Text
    profile: Name | None = None
    issuer: Name | None = None


class BareKeyEntry(Model):
    """A key without certificate: the next root's until its time has come, a recipient of backups, a raw key."""

    name: Name
    template: Name
    owner: Name | None = None


class SystemKeyEntry(Model):
    """A key in a token that signs for a service; certified by the authority of its profile.

    Responders and the time-stamp authority are known by their profile and have no identity.
    """

    name: Name
    template: Name
    identity: str | None = None
    common_name: Text
    profile: Name = "service-signing"


class ServiceEntry(Model):
    """A service whose holder made the key: certified from the PKCS#10 request `service/<name>`."""

    name: Name
    profile: Literal["service-tls", "service-signing"] = "service-tls"
    hosts: tuple[Host, ...] = ()

    @property
    def request(self) -> str:
        return f"service/{self.name}"


class OfficerEntry(Model):
    """A founding officer, certified from the PKCS#10 request `officer/<person>`."""

    person: Name
    name: Text
    organisation: Text
    roles: tuple[Literal["security_officer"], ...] = Field(min_length=1)

    @property
    def request(self) -> str:
        return f"officer/{self.person}"


class Ceremony(Model):
    """Everything that a founding makes, in the order in which it is made; of kind `root` it makes the root alone.

    The root's certificate names the key `next_root`, which is made beside it and waits (RFC 8649).
    """

    ceremony: Header
    organisation: Text
    country: Country
    root: AuthorityEntry
    next_root: BareKeyEntry | None = None
    authorities: tuple[AuthorityEntry, ...] = ()
    system_keys: tuple[SystemKeyEntry, ...] = ()
    services: tuple[ServiceEntry, ...] = ()
    officers: tuple[OfficerEntry, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.ceremony.kind not in {"founding", "root"}:
            raise ValueError(f"a ceremony of kind {self.ceremony.kind} founds nothing")
        below = (*self.authorities, *self.system_keys, *self.services, *self.officers)
        if (self.ceremony.kind == "root") == bool(below):
            raise ValueError("a founding has authorities below its root; a ceremony of kind root has nothing below it")
        following = [] if self.next_root is None else [self.next_root.name]
        for names in (
            [self.root.name, *following, *(entry.name for entry in self.keys)],
            [entry.name for entry in self.services],
            [entry.person for entry in self.officers],
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return self

    @property
    def keys(self) -> tuple[AuthorityEntry | SystemKeyEntry, ...]:
        """The keys made in the service tokens."""
        return (*self.authorities, *self.system_keys)

    @property
    def requests(self) -> tuple[str, ...]:
        """The names of the PKCS#10 requests that the ceremony needs."""
        return (*(entry.request for entry in self.services), *(entry.request for entry in self.officers))

    def with_services(self, services: Sequence[ServiceEntry]) -> Ceremony:
        """The same ceremony for more services, for example other issuing banks."""
        return _checked({**self.model_dump(), "services": [*self.services, *services]})

    def with_officers(self, officers: Sequence[OfficerEntry]) -> Ceremony:
        """The same ceremony with these founding officers instead of its own."""
        return _checked({**self.model_dump(), "officers": list(officers)})


def _checked(document: Any) -> Ceremony:
    try:
        return Ceremony.model_validate(document)
    except ValidationError as error:
        raise not_as_expected(error) from None


def not_as_expected(error: ValidationError) -> CeremonyError:
    """What is wrong with a ceremony file, field by field."""
    faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return CeremonyError(f"the ceremony file is not as expected: {faults}")
