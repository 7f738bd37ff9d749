"""Makes the picture of the terminal in docs/ from a run: `python docs/make_terminal.py RUN`.

It runs the commands as they stand below, and draws what they print. Nothing in the picture is written by hand.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS = 118
COMMANDS = (("ls",), ("top", "{run}", "--n", "5"), ("compare", "{run}", "best", "base"))


def main(run: str) -> None:
    """Write docs/terminal.svg."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for words in COMMANDS:
        given = [word.format(run=run) for word in words]
        console.print(Text(f"$ selfdev-engine {' '.join(given)}", "bold"))
        console.print(Text(said(given)))
    file = HERE / "terminal.svg"
    # Its fonts would be loaded from elsewhere.
    form = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="selfdev-engine", unique_id="terminal", code_format=form)
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
    print(f"{file.name}: {file.stat().st_size // 1000} kB")


def said(words: list[str]) -> str:
    """Return what a command prints. CalledProcessError where it fails."""
    command = [str(Path(sys.executable).parent / "selfdev-engine"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(sys.argv[1])
