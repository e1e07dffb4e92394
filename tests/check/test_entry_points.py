"""Installed packages offer mixers through an entry point; one that is broken is an error for who asks for it."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from gdnbench.check.new import new_mixer
from gdnbench.errors import GdnbenchError
from gdnbench.models import registry


@pytest.fixture
def offered(monkeypatch):
    """Return a function that makes a package offer things: name -> what loading gives, or an error."""

    def offer(**points):
        def load(thing):
            if isinstance(thing, Exception):
                raise thing
            return thing

        found = [SimpleNamespace(name=n, value=f"package:{n}", load=lambda t=t: load(t)) for n, t in points.items()]
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: found if group == "gdnbench.mixers" else []
        )
        monkeypatch.setattr(registry, "_broken", {})
        registry._installed.cache_clear()

    yield offer
    registry._installed.cache_clear()


@pytest.fixture
def fading(tmp_path):
    name = registry.resolve(str(new_mixer("fading_one", tmp_path)[0]))
    return registry._added.pop(name)


def test_a_class_is_known_by_the_name_of_its_entry_point(offered, fading):
    offered(theirs=fading)
    assert "theirs" in registry.names()
    assert registry.find("theirs") is fading
    assert registry.source_file("theirs").name == "fading_one.py"


def test_broken_ones_are_errors_for_who_asks(offered):
    offered(broken=ImportError("no module named x"), nothing=3)
    assert not {"broken", "nothing"} & set(registry.names())
    with pytest.raises(GdnbenchError, match=r"entry point broken = package:broken: ImportError: no module named x"):
        registry.find("broken")
    with pytest.raises(GdnbenchError, match="expected a Mixer class or a module with one, found 3"):
        registry.find("nothing")


def test_a_package_cannot_take_a_name_that_is_there_and_that_is_said(offered, fading):
    offered(gdn=fading)
    with pytest.warns(RuntimeWarning, match=r"package:gdn: .*a mixer called 'gdn' exists already; it is left out"):
        assert registry.find("gdn").__name__ == "GatedDeltaNet"
