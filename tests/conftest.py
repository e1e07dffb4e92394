"""What all stages share: a small corpus, and a cache of the tests' own, so that none touches the user's."""

import pytest

from tests.runs.tiny import make_books


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDNBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def books(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_books(tmp_path_factory.mktemp("corpora") / "books")
