"""SoftHSM2 tokens for tests: an installation with fresh tokens in a temporary folder.

A PKCS#11 module has one configuration a process, so tokens of two installations cannot be open at once: open them in
fixtures of function or module scope, and close them there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag

from hsm_service.keys import KeyKind, KeyRef
from hsm_service.provision import open_token, provision_tokens
from hsm_service.tokens import Token
from runtime.settings import Home


def provisioned_home(folder: Path) -> Home:
    """An installation below `folder` whose tokens (root; ca, gateway, merchants) are made."""
    home = Home(folder / "home")
    provision_tokens(home)
    return home


@contextmanager
def opened(home: Home, label: str, **options: Any) -> Iterator[Token]:
    """The token `label` of an installation, closed at the end."""
    token = open_token(home, label, **options)
    try:
        yield token
    finally:
        token.close()


def raw_session(token: Token) -> pkcs11.Session:
    """The token's logged-in read-write session, to put objects there that our own operations would never make."""
    assert token._login is not None
    return token._login.raw


def weak_rsa_key(token: Token, label: str, **attributes: bool) -> KeyRef:
    """An RSA-2048 signing pair, sound but for `attributes`, for example EXTRACTABLE=True; made by a raw template."""
    cka_id = token.random(16)
    template = {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN_RECOVER: False,
        **{Attribute[name]: value for name, value in attributes.items()},
    }
    raw_session(token).generate_keypair(
        KeyType.RSA,
        2048,
        id=cka_id,
        label=label,
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template=template,
    )
    return KeyRef(token.label, KeyKind.RSA, cka_id, label)


def run_python(program: str, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a process of its own, where a crash of the module is seen and harms nobody."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
