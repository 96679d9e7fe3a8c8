"""Runs the commands of docs/tutorial.md, in order, and draws the pictures that it shows.

python -m segue_support.tutorial          # run them
python -m segue_support.tutorial --draw   # and write docs/tutorial/*.svg

The reader's music is that of ``segue demo``; the home folder is removed afterwards.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from segue_cli.demo_catalogue import make_catalogue
from segue_support.paths import ROOT

PAGE = ROOT / "docs/tutorial.md"
BLOCK = re.compile(
    r"^```(?P<language>sh|console|python)\n(?P<body>.*?)^```(?:\n\n!\[.*?\]\((?P<picture>.*?)\))?",
    re.MULTILINE | re.DOTALL,
)
COLUMNS = 80
# The installation, and what runs until it is stopped.
LEFT_OUT = ("make setup", ". .venv/bin/activate", "segue up ~/Music", "segue status --watch")
SOME_FAILED = 3  # exit code of a backfill: three files of the music are broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the page, and the picture of what it prints, relative to the page."""

    text: str
    picture: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a command did."""

    command: Command
    returncode: int
    output: str  # with colours
    errors: str


def read_commands(page: str) -> list[Command]:
    """Return the commands of a page; a picture is of the last command of the block above it."""
    found = []
    for block in BLOCK.finditer(page):
        if block["language"] == "python":
            lines = [f"python - <<'END'\n{block['body']}END"]
        else:
            lines = [line.removeprefix("$ ") for line in block["body"].splitlines()]
        found += [Command(text=line) for line in lines[:-1]]
        found.append(Command(text=lines[-1], picture=block["picture"]))
    return found


def run_page(page: str, home: str) -> Iterator[Run]:
    """Run the commands of a page in a home folder with music, one after the other."""
    make_catalogue(os.path.join(home, "Music"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    environment["XDG_CACHE_HOME"] = os.path.expanduser("~/.cache")  # what is compiled there, stays
    environment |= {"HOME": home, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
    folder = home
    for command in read_commands(page):
        if command.text in LEFT_OUT:
            continue
        if command.text.startswith("cd "):
            target = command.text.removeprefix("cd ").replace("~", home)
            folder = os.path.join(folder, target)
            continue
        done = subprocess.run(
            ["bash", "-c", command.text],
            check=False, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        yield Run(
            command=command,
            returncode=done.returncode,
            output=done.stdout.replace(home, "/home/you"),
            errors=done.stderr,
        )


def draw(run: Run, path: str) -> None:
    """Draw a command and what it printed as a terminal, in SVG."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True)
    console.print(Text.assemble(("$ ", "dim"), run.command.text))
    console.print(Text.from_ansi(run.output.rstrip("\n")))
    svg = console.export_svg(title="", unique_id=os.path.basename(path).split(".")[0])
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))  # of another host


def main() -> None:
    """Run the page's commands; with ``--draw``, write its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--draw", action="store_true", help="write docs/tutorial/*.svg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for run in run_page(PAGE.read_text(), home):
            print(f"{run.returncode}  {run.command.text.splitlines()[0]}")
            if run.returncode not in (0, SOME_FAILED):
                sys.exit(run.output + run.errors)
            if options.draw and run.command.picture:
                path = PAGE.parent / run.command.picture
                path.parent.mkdir(exist_ok=True)
                draw(run, str(path))


if __name__ == "__main__":
    main()
