"""The public names."""

import importlib

import pytest

import sightline


@pytest.mark.parametrize("name", sightline.__all__)
def test_every_public_name_resolves_to_its_definition(name: str):
    module = importlib.import_module(sightline._PLACES[name])
    assert getattr(sightline, name) is getattr(module, name)


def test_the_list_of_names_is_the_table():
    assert sorted(sightline.__all__) == sorted(sightline._PLACES) and set(sightline.__all__) <= set(dir(sightline))


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(AttributeError, match="did you mean 'Grounder'"):
        _ = sightline.Grunder


def test_the_version_is_known():
    assert sightline.__version__.count(".") >= 2
