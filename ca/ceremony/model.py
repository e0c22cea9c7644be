"""A ceremony as data: who is founded, under which names, with which keys (`ca/ceremonies/*.yaml`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ca.errors import CeremonyError
from cps import strict_yaml
from cps.dossier import Host, Text

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Model):
    """Which ceremony this is, and the CPS section that asks for it."""

    id: Name
    version: int = Field(ge=1)
    section: str


class AuthorityEntry(_Model):
    """A CA: its name (which is that of its profile, its key and its file), key template and common name."""

    name: Name
    template: Name
    common_name: Text


class SystemKeyEntry(_Model):
    """A key in a token that signs for a service; certified by the authority of its profile.

    Responders and the time-stamp authority are known by their profile and have no identity.
    """

    name: Name
    template: Name
    identity: str | None = None
    common_name: Text
    profile: Name = "service-signing"


class ServiceEntry(_Model):
    """A service whose holder made the key: certified from the PKCS#10 request `service/<name>`."""

    name: Name
    profile: Literal["service-tls", "service-signing"] = "service-tls"
    hosts: tuple[Host, ...] = ()

    @property
    def request(self) -> str:
        return f"service/{self.name}"


class OfficerEntry(_Model):
    """A founding officer, certified from the PKCS#10 request `officer/<person>`."""

    person: Name
    name: Text
    organisation: Text
    roles: tuple[Literal["security_officer"], ...] = Field(min_length=1)

    @property
    def request(self) -> str:
        return f"officer/{self.person}"


class Ceremony(_Model):
    """Everything that a founding ceremony makes, in the order in which it is made."""

    ceremony: Header
    organisation: Text
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    root: AuthorityEntry
    authorities: tuple[AuthorityEntry, ...] = Field(min_length=1)
    system_keys: tuple[SystemKeyEntry, ...] = ()
    services: tuple[ServiceEntry, ...] = ()
    officers: tuple[OfficerEntry, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for names in (
            [self.root.name, *(entry.name for entry in self.keys)],
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


def load_ceremony(text: str | bytes) -> Ceremony:
    """A ceremony from YAML (UTF-8); raises CeremonyError naming the field that is not as expected."""
    try:
        document = strict_yaml.load(text)
    except ValueError as error:
        raise CeremonyError(f"the ceremony file is {error}") from None
    return _checked(document)


def founding_ceremony() -> Ceremony:
    """The founding ceremony that comes with the product."""
    return load_ceremony(files("ca").joinpath("ceremonies", "kwbp.yaml").read_text(encoding="utf-8"))


def _checked(document: Any) -> Ceremony:
    try:
        return Ceremony.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise CeremonyError(f"the ceremony file is not as expected: {faults}") from None
