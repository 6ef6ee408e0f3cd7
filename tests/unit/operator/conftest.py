"""Objects as the API server shows them, to try decisions on."""

from __future__ import annotations

import pytest
from metis_operator.core.objects import Owner


@pytest.fixture
def owner() -> Owner:
    return Owner(name="demo", namespace="team", uid="owner-uid")
