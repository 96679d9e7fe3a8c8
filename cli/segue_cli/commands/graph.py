"""``segue graph``: the graph of jobs, drawn."""

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError
from segue.model.graph import SOURCE, Graph
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.drawing.tree import branches
from segue_cli.files import write_file
from segue_cli.parameters import guess
from segue_cli.views import text
from segue_cli.views.output import PIPE_COLUMNS, encode, plain
from segue_cli.views.table import table

if TYPE_CHECKING:
    from rich.table import Table


class Format(StrEnum):
    """How to show the graph."""

    TREE = "tree"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


WIDE_COLUMNS = 110  # from which there is room for what each job does
SUFFIXES = {".svg": Format.SVG, ".json": Format.JSON, ".mmd": Format.MERMAID}

AsFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(Format),
        help="What to write.  [default: what the name after --output ends in, else tree]",
        autocompletion=lambda incomplete: [f for f in Format if f.startswith(incomplete)],
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write there, and nothing to standard output."
    ),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Import the jobs' code, too, and see that it fits the graph."),
]


@command(
    settings=("graph", "catalogue", "artifacts"),
    examples=(
        "segue graph",
        "segue graph --check",
        "segue graph --output graph.svg",
        "segue graph --format mermaid >> README.md",
    ),
)
def graph(
    context: Context,
    as_format: AsFormat = None,
    output_file: OutputFile = None,
    check: Check = False,
) -> None:
    """Show the graph of jobs, as a tree, Mermaid, SVG or JSON.

    Each job stands with what it writes, its version, its fingerprint (a hash of all that defines
    its results) and its owner. A job that needs several others is shown once, and referred to
    elsewhere. Loading a graph checks all of it that can be checked without the jobs' code.
    """
    loaded = context.graph
    if check:
        from segue.model.job_code import check as check_code

        check_code(loaded)
        context.output.note(f"The code of {text.count(len(loaded.jobs), 'job')} fits the graph.")
    chosen = _chosen(as_format, output_file, as_json=context.output.as_json)
    if output_file is None and chosen is Format.TREE:
        context.output.print(_tree(loaded, width=context.output.results.width))
        return
    drawn = _drawn(loaded, chosen)
    if output_file is None:
        typer.echo(drawn, nl=False)
    else:
        write_file(output_file, drawn.encode())
        context.output.note(f"Wrote {output_file}.")


def _chosen(wish: str | None, output_file: str | None, *, as_json: bool) -> Format:
    if wish is not None and wish not in set(Format):
        raise ConfigurationError(f"{wish!r} is no format of a graph; {guess(wish, list(Format))}")
    if as_json and wish not in (None, Format.JSON):
        raise ConfigurationError(f"--json and --format {wish} contradict each other; leave one out")
    if as_json:
        return Format.JSON
    suffix = os.path.splitext(output_file or "")[1]
    return Format(wish) if wish else SUFFIXES.get(suffix, Format.TREE)


def _drawn(loaded: Graph, chosen: Format) -> str:
    match chosen:
        case Format.SVG:
            from segue_cli.drawing.svg import svg

            return svg(loaded)
        case Format.MERMAID:
            from segue_cli.drawing.mermaid import mermaid

            return mermaid(loaded)
        case Format.JSON:
            from segue_cli.drawing.document import document

            return encode(document(loaded), indent=2) + "\n"
        case Format.TREE:
            return plain(_tree(loaded, width=PIPE_COLUMNS))


def _tree(loaded: Graph, *, width: int) -> "Table":
    from rich.text import Text

    wide = width >= WIDE_COLUMNS
    rows = table("job", "writes", "version", "fingerprint", "owner", *(["does"] if wide else []))
    for branch in branches(loaded):
        name = Text.assemble((branch.guide, "dim"), (branch.name, "bold"))
        if branch.name == SOURCE:
            rows.add_row(name)
        elif branch.again:
            name.stylize("not bold")
            rows.add_row(name + Text("  ↑ above", style="dim"))
        else:
            job = loaded.jobs[branch.name]
            fingerprint = Text(loaded.fingerprints[job.name], style="cyan")
            does = [job.description] if wide else []
            rows.add_row(name, job.writes, f"v{job.version}", fingerprint, job.owner, *does)
    return rows
