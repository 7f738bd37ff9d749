"""The command line: `selfdev-engine COMMAND`.

Exit codes: 0 done, 1 our bug, 2 usage, 3 rejected, 130 interrupted, 143 ended by SIGTERM. A command is a function that
returns its JSON object; `command.py` adds --json, error messages and exit codes. The module of a
command is imported only when the command is called, so that --help is quick.
"""

from __future__ import annotations

import importlib

import click

# The module and the line of each command, in the order of --help. A test compares the lines with the commands'
# own: importing all modules to print them takes longer than anybody waits for --help.
COMMANDS = {
    "doctor": ("doctor", "Check what this machine can do."),
    "zoo": ("zoo", "Make a base, three experts, a generator and tasks in DIR."),
    "methods": (
        "methods",
        "List the built-in methods: what `merge METHOD --param NAME=VALUE` takes, with ranges and defaults.",
    ),
    "trace": (
        "trace",
        "Trace PROGRAM for one tensor and say what it would cost; no weights are needed.",
    ),
    "merge": (
        "merge",
        "Apply PROGRAM to the task vectors and write a Hugging Face checkpoint to --out.",
    ),
    "screen": (
        "screen",
        "Score PROGRAMS in a live engine whose weights are swapped from one program to the next.",
    ),
    "eval": ("evaluate", "Score MODEL, a folder or a hub id, on a task."),
    "grade": ("evaluate", 'Grade saved answers: lines of JSON with "response" and "answer".'),
    "run": (
        "run",
        "Run the loop of CONFIG: sample programs, trace, score, make pairs, train, repeat.",
    ),
    "ls": (
        "look",
        "List the runs in DIR, the newest first: how far each is, its best score, its name and note.",
    ),
    "show": ("look", "Show what RUN found, or all that is known of one of its candidates."),
    "top": (
        "look",
        "Show the best programs of RUN by dev score, and how each compares with the base.",
    ),
    "diff": (
        "look",
        "Show how the programs of two candidates of RUN differ, and what they are as plain sums.",
    ),
    "compare": ("compare", "Compare two candidates of RUN, question by question, or two runs."),
    "report": (
        "run",
        "Write RUN/report.html anew from RUN/run.db: plots, a table of all candidates, their sources.",
    ),
    "export": ("run", "Write a candidate of RUN as a complete Hugging Face checkpoint."),
    "transfer": (
        "transfer",
        "Score the programs that RUN found on other experts of its base, on test.",
    ),
    "bench": ("bench", "Measure the speed of this installation: all rows, or those named."),
}


class LazyGroup(click.Group):
    """Imports the module of a command only to run that command or to print its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __name__)
        return getattr(module, f"{cmd_name}_command")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from ...engine.errors import did_you_mean

            near = did_you_mean(args[0], COMMANDS) or f"; there are {', '.join(COMMANDS)}"
            ctx.fail(f"No such command {args[0]!r}{near}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


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
