"""Who is calling: the identity in the client certificate of a mutually authenticated TLS connection.

Operations-CA certificates carry one URI in subjectAltName, `urn:kwbp:<kind>:<name>`, and extendedKeyUsage clientAuth.
A payment-signing certificate has no clientAuth, so it can never be used to log in, although it chains to the same root.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, get_args

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.requests import Request

from runtime.language import Listed, Message
from runtime.problems import Problem

Kind = Literal["service", "merchant", "officer", "gateway", "anonymous"]

_PREFIX: Final = "urn:kwbp:"
_KINDS: Final = frozenset(get_args(Kind)) - {"anonymous"}
SCOPE_KEY: Final = "kwbp.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller; its text form is `kind:name`, for example `merchant:shop-1`."""

    kind: Kind
    name: str = ""
    certificate: x509.Certificate | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def matches(self, *patterns: str) -> bool:
        """Whether one of the patterns (`service:ca`, `officer:*`, `anonymous`) names this caller."""
        text = str(self)
        return any(pattern == text or ("*" in pattern and fnmatchcase(text, pattern)) for pattern in patterns)


ANONYMOUS: Final = Caller("anonymous")


def caller_from_certificate(certificate: x509.Certificate) -> Caller:
    """The caller that a TLS client certificate names; anonymous if it names none that may log in."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ANONYMOUS
    identities = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(_PREFIX)]
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages or len(identities) != 1:
        return ANONYMOUS
    kind, _, name = identities[0].removeprefix(_PREFIX).partition(":")
    if kind not in _KINDS or not name:
        return ANONYMOUS
    return Caller(kind, name, certificate)  # type: ignore[arg-type]  # kind was just looked up in the literal's values


def caller_of(scope: MutableMapping[str, Any]) -> Caller:
    """The caller of an ASGI scope, put there by `runtime.server`."""
    caller = scope.get(SCOPE_KEY, ANONYMOUS)
    assert isinstance(caller, Caller)
    return caller


def require(*patterns: str) -> Callable[[Request], Awaitable[Caller]]:
    """A FastAPI dependency: the caller, if one of `patterns` names it, else 401 or 403.

    The patterns stay readable on the function, so that the authorisation matrix can be generated from the routes. It
    waits for nothing, but FastAPI would send a plain function to a thread, which takes longer than most answers.
    """

    async def dependency(request: Request) -> Caller:
        return check(caller_of(request.scope), *patterns)

    dependency.patterns = patterns  # type: ignore[attr-defined]  # read back by the OpenAPI document and the tests
    return dependency


def check(caller: Caller, *patterns: str) -> Caller:
    """The caller, if one of `patterns` names it; raises Problem 401 (no identity) or 403 (another identity)."""
    if caller.matches(*patterns):
        return caller
    expected = Listed(patterns, "or")
    if caller.kind == "anonymous":
        raise Problem(
            401,
            "client-certificate-required",
            Message("this needs a client certificate of {expected}", expected=expected),
        )
    raise Problem(
        403,
        "caller-not-allowed",
        Message("{caller} may not do this; it is for {expected}", caller=caller, expected=expected),
    )
