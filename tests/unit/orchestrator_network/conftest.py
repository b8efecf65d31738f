"""The keys of a run over the network, made once."""

from __future__ import annotations

import pytest
from loopback import NAMES

from orchestrator.network.authority import make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, NAMES)
    return folder
