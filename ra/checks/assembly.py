"""The identity checks of an installation, put together from its settings."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography import x509
from sqlalchemy import Engine

from cps.check_model import CheckKind, CodeCheck
from cps.register import PackRegister
from ra.checks.connector import Connector
from ra.checks.driver import Checks
from ra.checks.https import HttpsMessenger, HttpsRegister
from ra.checks.phone import PhoneCodes
from ra.checks.store import CheckStore
from runtime.secrets import Secret, read_secret, write_secret
from runtime.settings import Home, Settings

_KEY: Final = "ra-phone-key"
_KEY_SIZE: Final = 32  # bytes


def checks(
    engine: Engine,
    home: Home,
    settings: Settings,
    *,
    statements: Callable[[], PackRegister],
    sign: Callable[[x509.ObjectIdentifier, bytes], bytes],
    rng: Callable[[int], bytes],
    clock: Callable[[], datetime],
) -> Checks:
    """The checks over the RA's database, as the RA's TLS identity; attach the workflow to them."""
    tls = home.tls_files("ra")
    addresses: dict[CheckKind, str | None] = {
        "national_code": settings.identity.national_code,
        "company_register": settings.identity.company_register,
        "iban_owner": settings.identity.iban_owner,
    }
    connectors: dict[CheckKind, Connector] = {
        kind: HttpsRegister(url, url, tls) for kind, url in addresses.items() if url is not None
    }
    messages = settings.identity.messages

    def rule() -> CodeCheck | None:
        found = statements().in_force(clock()).checks.get("phone_code")
        return found if isinstance(found, CodeCheck) else None

    phones = PhoneCodes(
        engine,
        None if messages is None else HttpsMessenger(messages, tls),
        rule,
        key=phone_key(home, rng=rng),
        rng=rng,
        clock=clock,
    )
    return Checks(CheckStore(engine), connectors, phones=phones, sign=sign, rng=rng, clock=clock)


def phone_key(home: Home, *, rng: Callable[[int], bytes]) -> Secret:
    """The key that codes are computed with, made if there is none yet. Raises ValueError for another content."""
    path = home.secrets / _KEY
    if not path.exists():
        write_secret(path, rng(_KEY_SIZE).hex().encode("ascii"))
    try:
        key = binascii.unhexlify(read_secret(path).reveal().strip())
    except binascii.Error:
        key = b""
    if len(key) != _KEY_SIZE:
        raise ValueError(f"{path} must hold {2 * _KEY_SIZE} hexadecimal digits")
    return Secret(key)
