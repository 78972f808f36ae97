"""Stands for a controller in the tests of views."""

from __future__ import annotations


class Actions:
    """Writes down what was asked for."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        return lambda *values: self.asked.append((name, *values))
