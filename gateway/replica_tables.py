"""Tables by which gateways that share a database keep out of each other's way.

A lease says who does what only one of them may do at a time; it ends by itself, so a gateway that was lost holds
nothing up. The version of the merchant registry tells a gateway that another one has changed it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, String, Table

from gateway.schema import Instant, metadata

leases: Final = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True, doc="of the work"),
    Column("holder", String, nullable=False, doc="name of the replica"),
    Column("until", Instant, nullable=False),
)

registry_version: Final = Table(
    "registry_version",
    metadata,
    Column("registry", String, primary_key=True),
    Column("version", BigInteger, nullable=False, doc="one more with each change"),
)
