"""Any text is a graph, or is refused with its lines; and what is not so is found."""

from __future__ import annotations

import pytest

from segue.model.graph import Fault, Graph, GraphError, Job
from segue_support import malformed_graphs
from segue_support.malformed_graphs import check_graphs, main, make_text


@pytest.mark.slow
def test_malformed_graphs_are_loaded_or_refused_with_their_lines():
    figures = check_graphs(range(2000))
    assert figures.examples == []
    assert figures.violations == 0
    assert set(figures.kinds) == {"damaged", "edited", "grown", "odd", "shuffled"}
    assert figures.outcomes["loaded"] > 100
    assert figures.outcomes["refused"] > 1000


def test_the_same_seed_gives_the_same_text():
    assert [make_text(seed) for seed in range(50)] == [make_text(seed) for seed in range(50)]


def loop(*_args: object, **_options: object) -> Graph:
    jobs = {
        name: Job(name=name, run="m:f", needs={"x": parent}, writes="image/png")
        for name, parent in (("a", "b"), ("b", "a"))
    }
    return Graph(jobs=jobs)


def fail(error: Exception) -> object:
    def read(*_args: object, **_options: object) -> Graph:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "fragment"),
    [
        (fail(RecursionError("too deep")), "RecursionError"),
        (fail(MemoryError()), "MemoryError"),
        (fail(GraphError("elsewhere.yaml", [Fault("", "is wrong", 1)])), "does not list"),
        (loop, "comes before"),
    ],
)
def test_a_violation_is_found_and_makes_the_command_fail(monkeypatch, capsys, read, fragment):
    monkeypatch.setattr(malformed_graphs, "parse_graph", read)
    monkeypatch.setattr(malformed_graphs, "read_graph", read)
    assert main(["--seeds", "0:3"]) == 1
    said = capsys.readouterr().out
    assert fragment in said
    assert said.splitlines()[-1].endswith("3 violations")


@pytest.mark.parametrize(
    ("faults", "fragment"),
    [
        ([Fault("x", "is wrong")], "it names line None"),
        ([Fault("x", "is wrong", 99)], "it names line 99"),
        ([Fault("x", "is \x1b[2J wrong", 1)], None),
        ([Fault("x", "is wrong" * 20_000, 1)], "characters"),
    ],
)
def test_a_message_is_printable_and_has_the_line_of_each_fault(faults, fragment):
    error = GraphError("jobs.yaml", faults)
    found = malformed_graphs.find_message_fault(error, "jobs.yaml", b"a\nb\n")
    assert fragment in (found or "") if fragment else found is None
