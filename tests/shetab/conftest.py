"""The dialect and one honest pair of messages."""

from __future__ import annotations

import pytest

from shetab.dialect import Dialect
from shetab.message import Message
from tests.support.iso8583_messages import request_fields, response_fields


@pytest.fixture(scope="session")
def dialect() -> Dialect:
    return Dialect.load("shetab87_ascii")


@pytest.fixture
def request_message() -> Message:
    return Message("0200", request_fields())


@pytest.fixture
def response_message() -> Message:
    return Message("0210", response_fields())
