import pytest

from fer.artifact.__main__ import main
from fer.errors import FerError


@pytest.mark.parametrize(
    "arguments", [["out=x.ts"], ["checkpoint=absent.ckpt", "out=x.ts"], ["checkpoint=a", "out=b", "size=3"]]
)
def test_wrong_arguments_are_one_line(arguments):
    with pytest.raises(FerError):
        main(arguments)
