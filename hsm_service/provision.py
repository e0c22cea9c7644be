"""Making the tokens of an installation: configuration files, object stores, tokens, random PINs.

Which tokens there are, how they are grouped and where their files are: `token_layout`. PINs go to `C_InitToken` and
`C_InitPIN` directly, not through softhsm2-util, whose command line every user of the machine could read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from hsm_service.errors import TokenNotFound
from hsm_service.pkcs11_module import Pkcs11Module, find_module, load_module
from hsm_service.supervised import SupervisedOptions, SupervisedToken
from hsm_service.token_layout import CONFIGURATION_FOLDER, configuration_of, layout, pin_file, so_pin_file
from hsm_service.token_source import TokenSource, token_source
from hsm_service.tokens import Token
from runtime.secrets import Secret, random_pin, read_secret, write_secret
from runtime.settings import Home, Settings


def provision_tokens(
    home: Home, *, rng: Callable[[int], bytes] = os.urandom, folder: Path = CONFIGURATION_FOLDER
) -> tuple[str, ...]:
    """Make what is missing; labels of the tokens that were made now. A second run makes nothing.

    Must run in a process that has no token open (ModuleBusy). An interrupted run is taken up where it stopped: PIN
    files are written before the token that they open.
    """
    home.create()
    made: list[str] = []
    for group, content in layout(folder).groups.items():
        configuration = _write_configuration(home, group, folder)
        module = load_module(softhsm_conf=configuration)
        for label in content.tokens:
            if label not in module.labels():
                so_pin = _pin(so_pin_file(home, label), rng)
                module.init_token(label, so_pin, _pin(pin_file(home, label), rng))
                made.append(label)
    return tuple(made)


def load_group(home: Home, group: str) -> Pkcs11Module:
    """The PKCS#11 module under a group's configuration; raises TokenNotFound before `provision_tokens`, ModuleBusy."""
    configuration = configuration_of(home, group)
    if not configuration.is_file():
        raise TokenNotFound(f"{configuration} is missing: the tokens of this installation were not made yet")
    return load_module(softhsm_conf=configuration)


def open_token(home: Home, label: str, *, sessions: int = 8, acquire_timeout: float = 2.0) -> Token:
    """Open a token of the installation in this process, where kwbp.toml or the layout says that it is (`token_source`).

    A process has one module open at a time, under one configuration. Raises also runtime.secrets.SecretFileError and
    runtime.settings.SettingsError.
    """
    source = token_source(home, Settings.load(home), label)
    module = load_module(source.module, source.configuration)
    return Token.open(module, label, source.pin(), sessions=sessions, acquire_timeout=acquire_timeout)


def present(home: Home, labels: Sequence[str]) -> list[str]:
    """Those of `labels` that are there to be opened: what a ceremony has left to work with after a token was lost."""
    found, settings = [], Settings.load(home)
    for label in labels:
        with contextlib.suppress(TokenNotFound):
            source = token_source(home, settings, label)
            if label in load_module(source.module, source.configuration).labels():
                found.append(label)
    return found


def supervise_token(
    home: Home, label: str, *, source: TokenSource | None = None, **options: Unpack[SupervisedOptions]
) -> SupervisedToken:
    """Open a token in a process of its own; returns before it serves, and whether or not it will.

    `source` says where it is (`token_source.token_source`); by default where `provision_tokens` made it. Raises
    TokenNotFound if the installation has no such token or no PKCS#11 module; the PIN is read in the background.
    """
    if source is not None:
        module, configuration, pin = source.module, source.configuration, source.pin
    else:
        module, configuration = find_module(), configuration_of(home, layout().group_of(label))
        pin = partial(read_secret, pin_file(home, label))
    return SupervisedToken(label, module=module, configuration=configuration, pin=pin, **options)


def _write_configuration(home: Home, group: str, folder: Path) -> Path:
    store = home.tokens / group
    store.mkdir(mode=0o700, exist_ok=True)
    text = (folder / "softhsm2.conf").read_text("utf-8").replace("{tokendir}", str(store), 2)
    path = configuration_of(home, group)
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    return path


def _pin(path: Path, rng: Callable[[int], bytes]) -> Secret:
    if not path.exists():
        write_secret(path, random_pin(rng).reveal())
    return read_secret(path)
