"""What tests of the operations share: what one patches must not be replayed in another."""

import pytest
from gdnbench_kernels import replay


@pytest.fixture(autouse=True)
def nothing_of_another_test_is_replayed():
    with replay.afresh():
        yield
