"""Shared by all commands: the option --json, error messages, exit codes."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from ...engine.errors import PartlyDone, Rejected, UsageError, in_one_line, visible

Result = dict[str, Any]
# Characters of the line that says what is wrong: a path may have 4,096.
LONGEST_LINE = 10_000
DONE, BUG, USAGE, REJECTED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
# What a shell says of a command whose reader went away.
BROKEN_PIPE = 141

# Errors of the operating system that the user can mend; they are not bugs.
ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
ENVIRONMENT |= {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG}
ENVIRONMENT |= {errno.EIO, errno.ELOOP}


class Terminated(KeyboardInterrupt):
    """A scheduler, or `kill`, asks this process to end. It ends as Ctrl-C ends it."""


def terminate(number: int, frame: object) -> NoReturn:
    """End the command in order. The second SIGTERM ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


@contextlib.contextmanager
def resumable(how: str | Callable[[], str]) -> Iterator[None]:
    """Let a command that is interrupted inside say how it goes on; a function is asked then."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(how if isinstance(how, str) else how())
        raise


class Output:
    """Writes the result to stdout. Everything else that prints there goes to stderr."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)

    def print(self, text: str) -> None:
        """Print a result. Where nothing takes it the command ends, and what it made stays."""
        try:
            self._stdout.write(text.rstrip("\n") + "\n")
            self._stdout.flush()
        except BrokenPipeError:
            os._exit(BROKEN_PIPE)
        except OSError as error:
            say(f"error: the result cannot be printed: {error.strerror}; what was made is kept")
            os._exit(USAGE)

    def json(self, value: Result) -> None:
        self.print(json.dumps(value, allow_nan=False))


def open_closed() -> None:
    """Let the standard descriptors that the caller closed take everything and hold nothing.

    The next files would have their numbers, and what is printed would go into a model or a run.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # An open takes the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def command(
    name: str,
    render: Callable[[Result], str],
    exit_code: Callable[[Result], int] = lambda _: DONE,
    *,
    example: str = "",
) -> Callable[[Callable[..., Result]], click.Command]:
    """Make a click command of a function that returns its result as plain data.

    `render` makes the text for people; with --json the result itself is printed. `example` ends the help.
    """
    # \b keeps the line as it is.
    epilog = f"Example:\n\n\b\n  {example}" if example else None

    def wrap(function: Callable[..., Result]) -> click.Command:
        @click.command(name, help=function.__doc__, epilog=epilog)
        @click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print one JSON object to stdout, and nothing else.",
        )
        @functools.wraps(function)
        def run(as_json: bool, **options: Any) -> NoReturn:
            output = Output(as_json)
            try:
                check_folder()
                result = function(**options)
            except PartlyDone as error:
                sys.exit(print_partly_done(error, output, render))
            except BaseException as error:
                sys.exit(report_error(error, output))
            output.json(result) if as_json else output.print(visible(render(result)))
            sys.exit(exit_code(result))

        return run

    return wrap


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Context for an import of torch. Its objects live to the end, so the collector skips them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def report_error(error: BaseException, output: Output | None) -> int:
    """Print what happened, in one line if the error is an expected one; the exit code.

    With --json an object goes to `output`; None where one was printed already.
    """
    if isinstance(error, SystemExit):
        return int(error.code or 0)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        say(": ".join(["interrupted", *getattr(error, "__notes__", [])]))
        # Where click reads the options it makes an Abort of either.
        ended = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        return TERMINATED if ended else INTERRUPTED
    if isinstance(error, Rejected):
        return say_rejected(error, output)
    if line := usage_line(error):
        say(f"error: {line}")
        if output and output.as_json:
            output.json({"status": "error", "error": line})
        return USAGE
    print(visible("".join(traceback.format_exception(error))), file=sys.stderr)
    say("this is a bug of selfdev-engine; please report the lines above")
    return BUG


def print_partly_done(error: PartlyDone, output: Output, render: Callable[[Result], str]) -> int:
    """Print what was paid for, then what failed after it; with --json both are in one object."""
    if output.as_json:
        output.json(
            {**error.result, "status": "error", "error": usage_line(error.cause) or str(error)}
        )
    else:
        output.print(visible(render(error.result)))
    return report_error(error.cause, None)


def usage_line(error: BaseException) -> str | None:
    """The message for a mistake of the user, at most LONGEST_LINE characters; None for a bug."""
    if isinstance(error, UsageError):
        return one_line(str(error))
    if isinstance(error, click.ClickException):
        return one_line(error.format_message())
    if isinstance(error, OSError) and error.errno in ENVIRONMENT:
        place = f": {error.filename}" if error.filename else ""
        return f"{os.strerror(error.errno)}{place}"
    return None


def check_folder() -> None:
    """Raise UsageError where the current folder was removed: every relative path would fail, in its own words."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current folder was removed: change to one that is there") from None


def one_line(text: str) -> str:
    """A message without line breaks. A file can put megabytes into it; the middle is left out then."""
    line = " ".join(text.split())
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def say_rejected(error: Rejected, output: Output | None) -> int:
    rejection = error.rejection
    where = f", line {rejection.line}" if rejection.line else ""
    say(f"rejected ({rejection.kind}{where}): {rejection.detail}")
    if output and output.as_json:
        output.json(rejection.to_json())
    return REJECTED


def counted(number: int, word: str) -> str:
    """A number with its noun: "1 answer", "2 answers", "2 passes"."""
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{number} {word if number == 1 else plural}"


def say(line: str) -> None:
    """Print a line on stderr, escaped."""
    print(in_one_line(line), file=sys.stderr)


def run_cli(cli: click.Group) -> NoReturn:
    """Run the command line. Usage errors that click finds end like ours, with exit code 2."""
    signal.signal(signal.SIGTERM, terminate)
    open_closed()
    try:
        cli.main(standalone_mode=False)
    except (click.ClickException, click.Abort, KeyboardInterrupt, OSError) as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            sys.exit(USAGE)
        sys.exit(report_error(error, Output("--json" in sys.argv)))
    sys.exit(DONE)
