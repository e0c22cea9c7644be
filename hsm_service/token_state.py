"""How the tokens of an installation stand, seen from outside: nothing is logged in to, no PIN is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pkcs11 import Token, TokenFlag
from pkcs11.exceptions import PKCS11Error

from hsm_service.errors import HsmError
from hsm_service.pin_change import interrupted
from hsm_service.pin_sources import PinFile
from hsm_service.pkcs11_module import Pkcs11Module
from hsm_service.token_source import TokenSource, token_source
from runtime.secrets import SecretFileError
from runtime.settings import Home, Settings, SettingsError

READY: Final = "ready"

# The worst first: one state is shown.
_FLAGS: Final = (
    (TokenFlag.USER_PIN_LOCKED, "its user PIN is locked"),
    (TokenFlag.USER_PIN_FINAL_TRY, "one more wrong PIN locks it"),
    (TokenFlag.USER_PIN_COUNT_LOW, "a wrong PIN was tried since the last login"),
)


@dataclass(frozen=True, slots=True)
class TokenState:
    """One token, for a table."""

    label: str
    state: str
    """`READY`, or what stands against using it, in words."""
    module: str
    pin: str
    """Where its PIN comes from; never the PIN."""
    model: str = ""
    serial: str = ""


def token_states(home: Home, settings: Settings, labels: Sequence[str]) -> list[TokenState]:
    """The state of each token; a token that cannot be looked at has the reason as its state. Opens no session.

    For a process that has loaded no module: each is loaded in turn and finalised.
    """
    return [_state(home, settings, label) for label in labels]


def _state(home: Home, settings: Settings, label: str) -> TokenState:
    try:
        source = token_source(home, settings, label)
    except (HsmError, SettingsError) as error:
        return TokenState(label, str(error), module="", pin="")
    module, pin = str(source.module), str(source.pin)
    try:
        token = _look(source, label)
    except (HsmError, PKCS11Error) as error:
        return TokenState(label, str(error) or type(error).__name__, module, pin)
    told = [text for flag, text in _FLAGS if token.flags & flag]
    trouble = told[0] if told else _pin_trouble(source)
    return TokenState(label, trouble or READY, module, pin, token.model, token.serial.decode("ascii", "replace"))


def _look(source: TokenSource, label: str) -> Token:
    module = Pkcs11Module(source.module, source.configuration)
    try:
        return module.token(label)
    finally:
        module.finalize()


def _pin_trouble(source: TokenSource) -> str:
    """What is wrong with a PIN file; other sources are not disturbed."""
    if not isinstance(source.pin, PinFile):
        return ""
    if interrupted(Path(source.pin.path)).exists():
        return "a change of its PIN was interrupted: 'kwbp token pin settle' finishes it"
    try:
        source.pin()
    except SecretFileError as error:
        return str(error)
    return ""
