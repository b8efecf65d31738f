"""The C client under sanitizers, and the small bundle that it trains from."""

import pytest
from c_client_bundle import SIZE, TIME, build, write

from edge.bundle.golden import golden_batches
from edge.clients import c_client
from edge.clients.files import batches_to_bytes


@pytest.fixture(scope="session")
def client():
    if c_client.why_not():
        pytest.skip(f"no C client: {c_client.why_not()}")
    return c_client.c_client_path(sanitized=True)


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
