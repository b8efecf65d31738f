"""The C client under sanitizers, and the small bundle that it trains from."""

import shutil

import pytest
from c_client_bundle import COMPILER, SIZE, TIME, build, write

from edge.bundle.golden import golden_batches
from edge.clients import c_client
from edge.clients.files import batches_to_bytes


@pytest.fixture(scope="session")
def compiler():
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("there is no C compiler")


@pytest.fixture(scope="session")
def client(compiler):
    path = c_client.c_client_path(sanitized=True)
    assert path is not None, c_client.why_not()
    return path


@pytest.fixture(scope="session")
def model():
    return build(SIZE, TIME)


@pytest.fixture(scope="session")
def weights(model):
    return model[0]


@pytest.fixture(scope="session")
def bundle(model, tmp_path_factory):
    return write(tmp_path_factory.mktemp("c_client") / "bundle", model[1])


@pytest.fixture
def batches_path(tmp_path):
    path = tmp_path / "batches"
    path.write_bytes(batches_to_bytes(golden_batches(SIZE.vocabulary_size, TIME), SIZE.vocabulary_size))
    return path
