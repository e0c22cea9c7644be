"""The sections `[switch.zone]` and `[gateway.connectors.NAME.zone]`: what keys the gateway's token and others share.

The form of PIN blocks and what MACs are made with are part of the dialect; here stands what a dialect leaves open. Key
service, ceremony and switch read the same section (`shetab.zone.Zone.of`). A connector without one works with the keys
of the switch's zone; one with a section, be it empty, has keys of its own, called by its name.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_Time = Annotated[timedelta, Field(gt=timedelta(0))]
_Key = Literal["des2", "des3", "aes-128", "aes-256"]


class ZoneSettings(BaseModel):
    """Kinds of zone keys; without one, the first that fits the dialect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pin_key: _Key | None = Field(default=None, description="des2 or des3 for PIN blocks 0 and 3, AES for 4")
    mac_key: _Key | None = Field(default=None, description="aes-128 or aes-256 for aes-cmac, des2 for x9.19")
    master_key: Literal["aes-128", "aes-256"] | None = Field(
        default=None, description="aes-256 where a key under it is aes-256"
    )
    mac_padding: Literal[1, 2] = Field(default=1, description="of x9.19: ISO/IEC 9797-1 padding method")


class HostZoneSettings(ZoneSettings):
    """Of a connector with a zone of its own. What is not said about changes of keys is as `[gateway]` says."""

    key_change_at_sign_on: bool | None = Field(default=None, description="whether the first sign-on asks for new keys")
    key_lifetime: _Time | None = Field(default=None, description="age at which a key is changed")
    key_overlap: _Time | None = Field(default=None, description="how long the MAC key before is believed")
