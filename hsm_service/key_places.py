"""Where a key lies: its object in one token, looked at and compared with what the registry says of it.

A key may lie in several tokens, because a backup was restored on another, or because an HSM replicates. Each place is
judged by itself: it serves only if the object is there, is protected as the key's template demands, and has the public
key of the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hsm_service.errors import HsmError, TokenTrouble, WeakKey
from hsm_service.key_states import KeyState
from hsm_service.key_versions import RegisteredKey
from hsm_service.keys import KeyRef, Protection, Usage, chain_of
from hsm_service.purposes import USAGES
from hsm_service.templates import Template
from hsm_service.token_operations import TokenOperations
from pki.keys import spki_der


class Fault(StrEnum):
    """Why a key does not serve in a place, as metrics count it."""

    NOT_OPEN = "token-not-open"
    INTERRUPTED = "interrupted"
    MISSING = "missing"
    WEAK = "weak"
    CHANGED = "changed"
    TROUBLE = "token-trouble"
    UNKNOWN = "unknown"
    """Of an object that no row of the registry knows."""


@dataclass(frozen=True, slots=True)
class Place:
    """A key in one token. `fault` and `reason` (for people) say why it does not serve there, None if it does.

    `attributes` are the protection attributes as the token stated them when the place was last looked at.
    """

    label: str
    token: TokenOperations | None
    ref: KeyRef | None = None
    attributes: Mapping[str, bool] = field(default_factory=dict)
    fault: Fault | None = None
    reason: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether the key serves here and now."""
        return self.fault is None and self.token is not None and getattr(self.token, "healthy", True)


def look(
    row: RegisteredKey, template: Template, label: str, token: TokenOperations | None, ref: KeyRef | None
) -> Place:
    """Look at the key of `row` in the token `label`, where the object `ref` (None: nothing) has its CKA_ID.

    Asks the token for the object's attributes and public key; its trouble is a fault of the place too.
    """
    if token is None:
        return Place(label, None, fault=Fault.NOT_OPEN, reason=f"token {label} is not open in this process")
    if row.state is KeyState.DESTROYED:
        return Place(label, token, fault=Fault.MISSING, reason="it was destroyed")
    if row.state is KeyState.PENDING:
        reason = "the making of the key was interrupted; make it again"
        return Place(label, token, fault=Fault.INTERRUPTED, reason=reason)
    if ref is None:
        return Place(label, token, fault=Fault.MISSING, reason="the token does not hold it")
    ref = replace(ref, protection=protection_of(row, template, label))
    seen: dict[str, bool] = {}
    try:
        attributes = token.attributes(ref)
        seen = attributes.protection()
        attributes.require(ref.label, USAGES[template.purpose], ref.protection)
        if USAGES[template.purpose] is Usage.RETAIL_MAC:
            token.attributes(chain_of(ref)).require(ref.label, Usage.RETAIL_MAC, ref.protection)
        if template.is_pair and spki_der(token.public_key(ref)) != row.public_key:
            return Place(label, token, ref, seen, Fault.CHANGED, "the token holds another key")
    except WeakKey as error:
        return Place(label, token, ref, seen, Fault.WEAK, str(error))
    except TokenTrouble as error:
        return Place(label, token, ref, seen, Fault.TROUBLE, str(error))
    except HsmError as error:
        return Place(label, token, ref, seen, Fault.MISSING, str(error))
    return Place(label, token, ref, seen)


def protection_of(row: RegisteredKey, template: Template, label: str) -> Protection:
    """How the token `label` must keep the key of `row`: what was restored from a backup came from outside."""
    if label in row.replicas or row.restored:
        return Protection.BROUGHT_IN
    if template.imported:
        return Protection.BROUGHT_IN
    return Protection.COPYABLE if row.backup else Protection.BOUND
