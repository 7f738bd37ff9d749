"""The command line: `selfdev-engine COMMAND`.

Exit codes: 0 done, 1 our bug, 2 usage, 3 rejected, 130 interrupted, 143 ended by SIGTERM. A command is a function that
returns its JSON object; `command.py` adds --json, error messages and exit codes. The module of a
command is imported only when the command is called, so that --help is quick.
"""

from __future__ import annotations

import importlib

import click

# The module of each command, in the order of --help.
COMMANDS = {
    "doctor": "doctor",
    "zoo": "zoo",
    "methods": "methods",
    "trace": "trace",
    "merge": "merge",
    "screen": "screen",
    "eval": "evaluate",
    "grade": "evaluate",
    "compare": "evaluate",
    "run": "run",
    "report": "run",
    "export": "run",
    "transfer": "transfer",
    "bench": "bench",
}


class LazyGroup(click.Group):
    """Imports the module of a command only to run that command or to print its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name]}", __name__)
        return getattr(module, f"{cmd_name}_command")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="selfdev-engine")
def cli() -> None:
    """Trace, fuse, hot-swap and score model-merging programs that an LLM wrote.

    First steps: `selfdev-engine doctor`, `selfdev-engine zoo zoo/tiny`, then
    `selfdev-engine screen PROGRAMS --base ... --expert NAME=DIR ... --task ... --run DIR`.
    """


def main() -> None:
    """Entry point of the console script."""
    from .command import run_cli

    run_cli(cli)
