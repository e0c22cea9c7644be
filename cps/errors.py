"""Errors of the CPS package.

    CpsError
    ├── PackError          a policy pack or its texts, unknown key, dangling name, contradiction
    ├── DossierError       a dossier that is not the JSON form of one
    ├── StatementError     a decision or revocation statement that is not the DER form of one
    └── EntitlementError   a case asks for a certificate that nobody can be given
        └── IssuerError    or that another authority gives

A case that breaks a rule is no error: `decide` answers with findings, each naming its CPS clause.
"""

from __future__ import annotations

from typing import Final

from cps.rules import Rule
from pki.errors import PkiError
from runtime.language import Term, Text, ToldError


class CpsError(ToldError):
    """Root of the tree."""


class PackError(CpsError):
    """A policy pack cannot be loaded, or a document not be made of it; the text names the key and the rule."""


class DossierError(CpsError):
    """The bytes are not a dossier; the text names the field, never its value."""


class StatementError(CpsError):
    """The bytes are not a decision or revocation statement."""


class EntitlementError(CpsError):
    """A case asks for a certificate that its class does not have, or a field fits none; `clause` says which rule."""

    def __init__(self, said: Text, *, clause: str, **params: object) -> None:
        super().__init__(said, **params)
        self.clause = clause


class IssuerError(EntitlementError):
    """The statement has a certificate issued by another authority; `rule` is the rule's id."""

    rule: Final = Rule.CERT_ISSUER


def fault(error: PkiError | CpsError) -> Term | CpsError:
    """What an error says, as a value of a message: the reason of a `PkiError` has a name in every language."""
    return Term("reason", error.reason, str(error)) if isinstance(error, PkiError) else error
