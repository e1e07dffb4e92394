"""A variant that derives from a mixer depends on that mixer's file, too."""

from gdnbench.models import registry


def test_a_derived_mixers_files(root):
    name = registry.resolve(str(root / "examples" / "gdn_negative.py"))
    assert [path.name for path in registry.source_files(name)] == ["gdn_negative.py", "gdn.py"]
    assert [path.name for path in registry.source_files("gdn")] == ["gdn.py"]
