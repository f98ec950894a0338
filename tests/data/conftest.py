"""The real FER-2013, read once for all tests of this folder."""

import pytest
from samples import SHARED

from fer.data import fer2013
from fer.data.base import Split


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("real")))
        return fer2013.read(SHARED / "fer2013")
