"""Where the tokens of an installation are by default: the groups of softhsm_config/layout.toml and their files.

    home/tokens/<group>.conf      SoftHSM2 configuration, from softhsm_config/softhsm2.conf
    home/tokens/<group>/          object store of the group
    home/secrets/token-<label>.pin, token-<label>.so-pin      0600, random, never overwritten

They are made by `provision`; a section of kwbp.toml can put a token elsewhere (`token_source`).
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from hsm_service.errors import TokenNotFound
from runtime.settings import Home

CONFIGURATION_FOLDER: Final = Path(__file__).resolve().parent.parent / "softhsm_config"


class Group(BaseModel):
    """Tokens that share an object store and a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[str, ...] = Field(min_length=1)


class Layout(BaseModel):
    """The tokens of an installation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: dict[str, Group]

    def group_of(self, label: str) -> str:
        """The group that holds the token `label`; raises TokenNotFound."""
        for name, group in self.groups.items():
            if label in group.tokens:
                return name
        raise TokenNotFound(f"the token layout has no token {label!r}")


@cache
def layout(folder: Path = CONFIGURATION_FOLDER) -> Layout:
    """The token layout, from `folder`/layout.toml; raises pydantic.ValidationError if it holds unknown keys."""
    return Layout.model_validate(tomllib.loads((folder / "layout.toml").read_text("utf-8")))


def configuration_of(home: Home, group: str) -> Path:
    """The SoftHSM2 configuration file of a group."""
    return home.tokens / f"{group}.conf"


def pin_file(home: Home, label: str) -> Path:
    """The file with the user PIN of a token."""
    return home.secrets / f"token-{label}.pin"


def so_pin_file(home: Home, label: str) -> Path:
    """The file with the security officer's PIN of a token, needed only to re-initialise it or to reset the user PIN."""
    return home.secrets / f"token-{label}.so-pin"
