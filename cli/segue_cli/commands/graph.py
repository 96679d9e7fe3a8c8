"""``segue graph``: show the job graph as a tree, Mermaid, SVG or JSON."""

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError
from segue.model.graph import SOURCE, Graph
from segue.suggestion import suggest
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.drawing.tree import walk_tree
from segue_cli.files import write_file
from segue_cli.views import text
from segue_cli.views.output import PIPE_COLUMNS, encode_json, render_plain
from segue_cli.views.table import build_table

if TYPE_CHECKING:
    from rich.table import Table


class Format(StrEnum):
    """The output formats of the graph."""

    TREE = "tree"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


WIDE_COLUMNS = 110  # the least width with room for the descriptions of jobs
SUFFIXES = {".svg": Format.SVG, ".json": Format.JSON, ".mmd": Format.MERMAID}

AsFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(Format),
        help="The output format.  [default: by the suffix of --output, else tree]",
        autocompletion=lambda incomplete: [f for f in Format if f.startswith(incomplete)],
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write to this file instead of standard output."
    ),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Also import the jobs' code and check that it matches the graph."),
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
    """Show the job graph as a tree, Mermaid, SVG or JSON.

    Each job is shown with its content type, version, fingerprint (a hash of everything that defines
    its results) and owner. A job with several parents is shown in full once and referred to
    elsewhere. The graph is always validated; --check also validates the jobs' code.
    """
    loaded = context.graph
    if check:
        from segue.model.job_code import check_code

        check_code(loaded)
        jobs = text.format_count(len(loaded.jobs), "job")
        context.output.note(f"The code of {jobs} matches the graph.")
    chosen = _choose_format(as_format, output_file, as_json=context.output.as_json)
    if output_file is None and chosen is Format.TREE:
        context.output.print(_render_tree(loaded, width=context.output.stdout.width))
        return
    rendered = _render(loaded, chosen)
    if output_file is None:
        typer.echo(rendered, nl=False)
    else:
        write_file(output_file, rendered.encode())
        context.output.note(f"Wrote {output_file}.")


def _choose_format(name: str | None, output_file: str | None, *, as_json: bool) -> Format:
    if name is not None and name not in set(Format):
        raise ConfigurationError(f"{name!r} is not a graph format; {suggest(name, list(Format))}")
    if as_json and name not in (None, Format.JSON):
        raise ConfigurationError(f"--json and --format {name} contradict each other; leave one out")
    if as_json:
        return Format.JSON
    suffix = os.path.splitext(output_file or "")[1]
    return Format(name) if name else SUFFIXES.get(suffix, Format.TREE)


def _render(loaded: Graph, chosen: Format) -> str:
    match chosen:
        case Format.SVG:
            from segue_cli.drawing.svg import draw_svg

            return draw_svg(loaded)
        case Format.MERMAID:
            from segue_cli.drawing.mermaid import draw_mermaid

            return draw_mermaid(loaded)
        case Format.JSON:
            from segue_cli.drawing.document import build_document

            return encode_json(build_document(loaded), indent=2) + "\n"
        case Format.TREE:
            return render_plain(_render_tree(loaded, width=PIPE_COLUMNS))


def _render_tree(loaded: Graph, *, width: int) -> "Table":
    from rich.text import Text

    wide = width >= WIDE_COLUMNS
    rows = build_table(
        "job", "writes", "version", "fingerprint", "owner", *(["description"] if wide else [])
    )
    for branch in walk_tree(loaded):
        name = Text.assemble((branch.guide, "dim"), (branch.name, "bold"))
        if branch.name == SOURCE:
            rows.add_row(name)
        elif branch.again:
            name.stylize("not bold")
            rows.add_row(name + Text("  ↑ above", style="dim"))
        else:
            job = loaded.jobs[branch.name]
            fingerprint = Text(loaded.fingerprints[job.name], style="cyan")
            last = [job.description] if wide else []
            rows.add_row(name, job.writes, f"v{job.version}", fingerprint, job.owner, *last)
    return rows
