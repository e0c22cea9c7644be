"""The list of readers is whole: whoever adds a function that reads bytes from outside adds it here, or says why not."""

from __future__ import annotations

from functools import reduce
from importlib import import_module

from tests.fuzz.decoder import CORPUS
from tests.fuzz.reading_protocol import catalogue, structures
from tests.fuzz.registry import covered, decoders, not_fuzzed, outside


def test_every_function_that_reads_bytes_is_fuzzed_or_says_why_not() -> None:
    found = set(outside())
    assert len(found) > 150
    missing = sorted(found - covered() - set(not_fuzzed()))
    assert not missing, "name each in `covers` of a reader in tests/fuzz/reading_*.py, or in not_fuzzed.yaml with why"
    assert set(not_fuzzed()) <= found - covered(), "not_fuzzed.yaml names what is gone, or is fuzzed"


def test_what_is_said_to_be_run_exists() -> None:
    for each in covered():
        module, _, name = each.partition(":")
        assert callable(reduce(getattr, name.split("."), import_module(module))), each


def test_every_structure_and_every_message_is_there() -> None:
    names = set(decoders())
    assert {f"structure.{cls.__name__}" for cls in structures()} <= names
    assert {f"message.{name}" for name in catalogue().exchanges} <= names


def test_every_folder_of_the_corpus_is_a_readers() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(decoders())
