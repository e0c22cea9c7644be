"""How much one caller of the gateway may ask at once, and how much all of them: `[gateway.floods]`, as data."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from runtime.token_bucket import Rate


class FloodSettings(BaseModel):
    """Limits before any signature is verified or any key is used; one process counts for itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    merchant: Rate = Field(
        default=Rate(burst=2000, every=timedelta(milliseconds=2)), description="requests of one merchant"
    )
    cold: float = Field(
        default=0.1, ge=0, le=1, description="part of the burst that a merchant has right after a start"
    )
    at_once: int = Field(default=512, ge=1, description="messages that are worked on at once")
    at_once_of_one: int = Field(default=128, ge=1, description="of these, messages of one merchant")
    waiting_of_one: int = Field(default=128, ge=0, description="messages of one merchant that wait for their turn")
    patience: float = Field(default=5.0, gt=0, description="seconds that a message waits for its turn")
    reading_of_one: int = Field(default=256, ge=1, description="bodies of one merchant that are on their way in")
    connections: int = Field(default=4096, ge=1, description="open connections of the merchants' port")
    connections_of_one: int = Field(default=1024, ge=1, description="of these, from one address")
    public_connections: int = Field(default=512, ge=1, description="open connections of the cards' port")
    public_connections_of_one: int = Field(default=16, ge=1, description="of these, from one address")
