"""The command line of `trainledger run`."""

import pytest

from trainledger.run_options import parse_run_options
from trainledger_schemas.errors import UsageError


def test_options_become_settings_of_the_same_names_and_the_command_stays_as_it_is() -> None:
    told = parse_run_options("--group sweep-7 --name=a --tags x,y -- python train.py --group other".split())
    assert told.command == ("python", "train.py", "--group", "other")
    assert told.settings == {
        "TRAINLEDGER_GROUP": "sweep-7",
        "TRAINLEDGER_NAME": "a",
        "TRAINLEDGER_TAGS": "x,y",
    }


def test_an_option_that_is_mistyped_is_refused_with_the_one_that_is_meant() -> None:
    with pytest.raises(UsageError, match="unknown option --gruop; did you mean --group"):
        parse_run_options(["--gruop", "sweep", "--", "true"])
    with pytest.raises(UsageError, match="--group needs a value"):
        parse_run_options(["--group", "--", "true"])
