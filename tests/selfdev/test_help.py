"""--help has an example that works, a text for each option and the defaults; near words are named."""

from __future__ import annotations

import click
import pytest
from selfdev_engine.engine.errors import UsageError, did_you_mean
from selfdev_engine.engine.screening.inputs import check_backend
from selfdev_engine.engine.tasks.load import load_task
from selfdev_engine.selfdev import cli
from selfdev_engine.selfdev.methods import load_method

ROOT = click.Context(cli.cli)
COMMANDS = {name: cli.cli.get_command(ROOT, name) for name in cli.COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_of_today(name):
    found = COMMANDS[name]
    words = found.epilog.split("selfdev-engine ")[1].split()
    assert words[0] == name
    context = found.make_context(name, words[1:])  # an option or argument that is gone is an error
    assert set(context.params) == {p.name for p in found.params}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_has_a_text_and_shows_its_default(name):
    options = [p for p in COMMANDS[name].params if isinstance(p, click.Option)]
    for option in options:
        assert option.help and option.help.rstrip()[-1] in ".])", option.name
        default = option.to_info_dict()["default"]
        if default is not None and not option.is_flag and not option.multiple:
            assert option.show_default, option.name


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("mrge", ["merge", "screen"], "; did you mean 'merge'?"),
        ("TIES", ["linear", "ties"], "; did you mean 'ties'?"),
        ("gsm8", ["gsm8k", "math"], "; did you mean 'gsm8k'?"),
        ("quite other", ["gsm8k", "math"], ""),
        ("x", [], ""),
    ],
)
def test_the_nearest_word_is_named(word, known, said):
    assert did_you_mean(word, known) == said


def test_words_of_commands_are_compared_so():
    with pytest.raises(UsageError, match="did you mean 'ties'"):
        load_method("TIES")
    with pytest.raises(UsageError, match="did you mean 'triton'"):
        check_backend("trition")
    with pytest.raises(UsageError, match="did you mean 'gsm8k'"):
        load_task("gsm8")
