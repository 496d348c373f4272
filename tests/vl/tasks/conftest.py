"""A stand-in for vl.pictures while it is on another branch."""

import sys
import types

import pytest


@pytest.fixture(autouse=True)
def pictures_module(monkeypatch):
    module = types.ModuleType("vl.pictures")
    module.Pictures = type("Pictures", (), {"__init__": lambda self, place: setattr(self, "place", place)})
    monkeypatch.setitem(sys.modules, "vl.pictures", module)
