"""``segue jobs``: list the jobs that ship with Segue or one of its graphs, or show one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from segue.errors import ConfigurationError, suggest
from segue.extras import MissingExtra
from segue.model.graph import Graph, Job, find_model_params, read_graph
from segue.model.job_code import find_callable
from segue.model.result_schema import build_result_schema, iterate_fields
from segue.model.shipped_graphs import list_shipped_graphs, read_costs
from segue_cli.command import Context, command
from segue_cli.drawing import format_outputs, format_short_outputs
from segue_cli.views.output import build_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedJob:
    """A job that ships with Segue."""

    job: Job
    graphs: list[str]  # the names of those that have it
    cpu_s_per_minute: float | None  # of sound or film, as it was measured
    licences: list[str]  # of its models

    @property
    def models(self) -> list[str]:
        """The models that it needs, as name@version."""
        return list(find_model_params(self.job).values())

    def format_models(self) -> str:
        """Return the models as one line, those of a licence together with it."""
        models: dict[str, list[str]] = {}
        for model, licence in zip(self.models, self.licences, strict=True):
            models.setdefault(licence, []).append(model)
        return ", ".join(f"{', '.join(names)} ({licence})" for licence, names in models.items())


def complete_name(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a job that ships with Segue."""
    return [
        CompletionItem(name, help=one.job.description)
        for name, one in list_shipped_jobs().items()
        if name.startswith(incomplete)
    ]


@command(
    examples=(
        "segue jobs",
        "segue jobs beats",
        "segue jobs beats --json",
    )
)
@click.argument(
    "name",
    required=False,
    metavar="[JOB|GRAPH]",
    help="Show all about one job, or the jobs of one graph; without it, list all.",
    shell_complete=complete_name,
)
def jobs(context: Context, name: str | None) -> None:
    """List the jobs that ship with Segue, or show all about one.

    The list says for each graph which jobs it has, what they read and write, the CPU seconds that a
    minute of sound or film costs on one core, and their models with the licences. Any command takes
    the name of such a graph, such as 'segue backfill --graph speech', and 'segue init --graph NAME'
    copies it to a file.
    """
    listed = list_shipped_jobs()
    if name in listed:
        _show_one(context, listed[name])
        return
    graphs = list_shipped_graphs()
    if name is not None and name not in graphs:
        raise ConfigurationError(
            f"{name!r} is no job or graph that ships with Segue; "
            f"{suggest(name, [*listed, *graphs])}"
        )
    chosen = {job: one for job, one in listed.items() if name is None or name in one.graphs}
    _show_list(context, chosen)


def list_shipped_jobs() -> dict[str, ShippedJob]:
    """Return the jobs that ship with Segue by name, those of the default graph first."""
    costs = read_costs()
    graphs: dict[str, Graph] = {
        name: read_graph(path, {}) for name, path in list_shipped_graphs().items()
    }
    found: dict[str, ShippedJob] = {}
    for graph in graphs.values():
        for name, job in graph.jobs.items():
            having = [one for one, other in graphs.items() if name in other.jobs]
            having.sort(key=name.__ne__)  # its own graph first
            models = [graph.find_model(one) for one in find_model_params(job).values()]
            licences = [model.licence or "not given" for model in models]
            shipped = ShippedJob(
                job=job, graphs=having, cpu_s_per_minute=costs.get(name), licences=licences
            )
            found.setdefault(name, shipped)
    return found


def _show_list(context: Context, listed: Mapping[str, ShippedJob]) -> None:
    if context.output.as_json:
        context.output.write_json({"jobs": [_to_json(one) for one in listed.values()]})
        return
    rows = build_table("job", "description")
    for graph in list_shipped_graphs():
        own = {name: one for name, one in listed.items() if one.graphs[0] == graph}
        if own:
            rows.add_row(graph)
        for name, one in own.items():
            rows.add_row(f"  {name}", f"{one.job.description}\n{_summarise(one)}")
    context.output.print(rows)


def _summarise(one: ShippedJob) -> str:
    """Return what a job reads and writes, what it costs, its models and its other graphs."""
    cost = one.cpu_s_per_minute
    parts = [
        f"{', '.join(one.job.needs.values())} -> {format_short_outputs(one.job)}",
        "" if cost is None else f"{cost:.2g} CPU s/min",
        one.format_models(),
        f"also in {', '.join(one.graphs[1:])}" if one.graphs[1:] else "",
    ]
    return "; ".join(part for part in parts if part)


def _show_one(context: Context, one: ShippedJob) -> None:
    if context.output.as_json:
        context.output.write_json(_to_json(one))
        return
    job, output = one.job, context.output
    output.print(f"{job.name}: {job.description}\n")
    facts = {
        "graph": ", ".join(one.graphs),
        "run": job.run,
        "needs": ", ".join(f"{name}: {needed}" for name, needed in job.needs.items()),
        "writes": format_outputs(job.writes),
        "params": ", ".join(f"{name}: {value}" for name, value in job.params.items()),
        "model": one.format_models(),
        "cost": "" if one.cpu_s_per_minute is None else f"{one.cpu_s_per_minute:.2g} CPU s/min",
    }
    width = max(map(len, facts))
    output.print(*(f"{name:<{width}}  {value}" for name, value in facts.items() if value))
    target = _find_code(job)
    schema = _build_schema(job, target)
    if schema is not None:
        rows = build_table("result", "type", "meaning")
        for field in iterate_fields(schema):
            rows.add_row(*field)
        output.print("", rows)
    for code in (target, vars(target).get("__call__")) if target is not None else ():
        if code is not None and (text := inspect.getdoc(code)):
            output.print("", text)


def _find_code(job: Job) -> Any:
    try:
        return find_callable(job.run)
    except MissingExtra:  # what describes the job needs none of it, but its module may
        return None


def _build_schema(job: Job, target: Any) -> dict[str, Any] | None:
    is_json = "application/json" in job.outputs.values()
    return build_result_schema(target) if is_json and target is not None else None


def _to_json(one: ShippedJob) -> dict[str, Any]:
    job = one.job
    target = _find_code(job)
    return {
        "job": job.name,
        "description": job.description,
        "graphs": one.graphs,
        "run": job.run,
        "needs": dict(job.needs),
        "accepts": list(job.accepts),
        "outputs": dict(job.outputs),
        "params": dict(job.params),
        "models": one.models,
        "licences": one.licences,
        "cpu_s_per_minute": one.cpu_s_per_minute,
        "schema": _build_schema(job, target),
    }
