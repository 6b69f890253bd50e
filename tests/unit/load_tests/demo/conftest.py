import pytest
from unit.load_tests.demo.told import record


@pytest.fixture
def told():
    return record()
