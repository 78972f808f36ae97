"""Fixtures of the controllers' tests."""

from __future__ import annotations

import pytest

from .retrain_room import Room


@pytest.fixture
def room(fakes, correct_bench):
    """The training part of the dock; see ``retrain_room``."""
    made = Room(fakes, correct_bench)
    yield made
    made.controller.close()
    made.bench.controller.close()
