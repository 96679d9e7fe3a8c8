"""CPU of each job that ships with Segue, and of plain calls of libraries for the same, in one run.

    python -m bench.jobs [--graph NAME]... [--rounds N] [--voice FILE] [--write]

Each job runs alone, with one thread, on a song, a voice, a film or a picture that is made for it:
`bench.material`. Printed is the least CPU of the rounds: in seconds for a minute of sound or film,
or for a picture. Reading the media is a part of jobs on pictures and films. Sound is decoded once
for all jobs on a file, which has a line of its own. ``write_s`` is what encoding the result costs;
``cost_s`` is both, and what ``--write`` writes for ``segue jobs``, to two digits. ``found`` counts
what is in a result, and has its reason if there is one: where it found nothing, a job did not do
its full work, or did it in vain. The synthesised voice is babble, for which `transcript` takes
twice as long as for speech, to find nothing: name a recording with ``--voice``.

A job whose model is missing is named with the command that gets the model, and left out. Some plain
calls need packages that Segue does without: pip install faster-whisper imagehash rapidocr
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from bench.light import Numbers, Stages
from bench.material import MINUTES, make_material
from bench.measure import ROOT, report
from segue.model.graph import read_graph
from segue.model.shipped_graphs import COSTS, FEATURES, list_shipped_graphs, read_costs

# What the jobs of a graph run on; it is a song, if nothing else is named.
MEDIA = {
    "film": ("film", "picture"),
    "language": ("voice",),
    "speech": ("voice",),
    "transcript": ("voice",),
}


def measure_graph(graph: str, path: str, rounds: int) -> tuple[Stages, Any]:
    """Measure the jobs of a graph, and what they have found and lacked in the last round."""
    stages = Stages(ROOT, path, "plain", graph)
    stages.run_round()  # what happens at first use
    for _ in range(rounds):
        parts = stages.count_round()
    stages.close()
    return stages, parts[3:]


def list_rows(name: str, path: str, kind: str, media: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield what was measured of each job of a graph that takes a kind of media."""
    stages, (found, missing) = measure_graph(path, media, rounds)
    jobs = [*(["decode"] if "decode" in stages.jobs else []), *read_graph(path, {}).jobs]
    for job in jobs:
        row: dict[str, Any] = {"graph": name, "job": job, "media": kind}
        if job in stages.jobs:
            row |= compare(job, stages, MINUTES[kind])
        if job in found:
            row["found"] = found[job]
        if job in missing:
            row["missing"] = missing[job]
        if len(row) > 3:
            yield row


def compare(job: str, stages: Stages, minutes: float) -> dict[str, float]:
    """Return the seconds of a job, and of the plain call if there is one."""

    def take(numbers: Numbers) -> float:
        return min(numbers[job]) / 1e3 / minutes

    job_s = take(stages.jobs)
    row = {"job_s": job_s}
    if job in stages.plain:
        row |= {"plain_s": take(stages.plain), "ratio": job_s / take(stages.plain)}
    if job in stages.encoding:
        row |= {"write_s": take(stages.encoding), "cost_s": job_s + take(stages.encoding)}
    return {key: round_digits(value, 2 if key == "cost_s" else 3) for key, value in row.items()}


def round_digits(value: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f"{value:.{digits}g}")


def sort_graphs(names: Iterable[str]) -> list[str]:
    """Sort graphs so that those come last whose jobs others have, too."""
    paths = list_shipped_graphs()
    return sorted(names, key=lambda name: -len(read_graph(paths[name], {}).jobs))


def write_costs(costs: dict[str, float]) -> None:
    """Write what `segue jobs` shows, and keep what was not measured of jobs that still exist."""
    graphs = [read_graph(path, {}) for path in list_shipped_graphs().values()]
    shipped = {job for graph in graphs for job in graph.jobs}
    known = {job: cost for job, cost in {**read_costs(), **costs}.items() if job in shipped}
    with open(os.path.join(FEATURES, COSTS), "w", encoding="utf-8") as file:
        file.write(json.dumps(known, indent=2, sort_keys=True) + "\n")
    if missing := sorted(shipped - known.keys()):
        report(benchmark="jobs", without_cost=missing)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    shipped = list_shipped_graphs()
    parser.add_argument("--graph", action="append", choices=shipped, help="again for another one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--voice", metavar="FILE", help="a recording of speech, which is repeated")
    parser.add_argument("--write", action="store_true", help=f"write {COSTS}")
    given = parser.parse_args()
    costs: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in sort_graphs(given.graph or [*shipped]):
            if costs.keys() >= read_graph(shipped[name], {}).jobs.keys():
                continue
            for kind in MEDIA.get(name, ("song",)):
                media = make_material(kind, folder, given.voice)
                for row in list_rows(name, shipped[name], kind, media, given.rounds):
                    if kind != "picture" and row["job"] in costs:
                        continue
                    report(benchmark="jobs", **row)
                    if "cost_s" in row and kind != "picture":
                        costs[row["job"]] = row["cost_s"]
    if given.write:
        write_costs(costs)


if __name__ == "__main__":
    main()
