import pytest

from recmodels.commands.options import OptionParser
from recmodels.errors import ParamError


def _parser() -> OptionParser:
    parser = OptionParser("data carve")
    parser.add_argument("name")
    parser.add_argument("--valid", type=float, default=0.1)
    return parser


def test_options_are_read() -> None:
    assert vars(_parser().read(["gowalla", "--valid=0.2"])) == {"name": "gowalla", "valid": 0.2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--vali=1", "--q"], "unknown argument '--vali'; did you mean '--valid'?; unknown argument '--q'"),
        ([], "the following arguments are required: name"),
        (["x", "--valid=much"], "argument --valid: invalid float value: 'much'"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_command_and_its_help(arguments: list[str], message: str) -> None:
    with pytest.raises(ParamError) as caught:
        _parser().read(arguments)
    assert str(caught.value) == f"recmodels data carve: {message}; try recmodels data carve --help"
