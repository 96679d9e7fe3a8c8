"""What an installation costs follows from inputs, and the page says what the module does."""

from __future__ import annotations

import re

import pytest

from segue.model.graph import read_graph
from segue_cli.cost import (
    EXPORT,
    INPUTS,
    MONTHLY,
    NAMESPACE_MONTHLY,
    NAMESPACE_ONCE,
    ONCE,
    compute_amount,
    compute_total,
    format_page,
)
from segue_support.paths import ROOT

LINES = (*ONCE, *MONTHLY, *NAMESPACE_ONCE, *NAMESPACE_MONTHLY, *EXPORT)
PRODUCTION = (ROOT / "infra" / "envs" / "prod.tfvars").read_text()


def setting(name: str) -> float:
    """A number that production is deployed with."""
    (found,) = re.findall(rf"^ *{name} *= *(\d+)$", PRODUCTION, re.MULTILINE)
    return float(found)


def test_the_page_is_the_one_that_the_module_writes():
    assert (ROOT / "docs" / "cost.md").read_text() == format_page()


def test_every_figure_of_the_page_is_the_product_of_the_inputs_beside_it():
    values = {name: given.value for name, given in INPUTS.items()}
    rows = re.findall(
        r"^\| [^|]+ \| [^|]+ \| (`.*`) \| (.*) \| (.*) \|$", format_page(), re.MULTILINE
    )
    assert len(rows) == len(LINES)
    for formula, once, month in rows:
        product = 1.0
        for name in re.findall(r"`(.+?)`", formula):
            product *= values[name]
        said = float((once or month).strip().lstrip("$").replace(",", ""))
        assert said == pytest.approx(product, abs=0.5 if product >= 10 else 0.005)


def test_every_input_is_used_and_every_price_ends_a_product():
    used = {name for line in LINES for name in line.formula.split()}
    assert used == set(INPUTS)
    for line in LINES:
        *amounts, price = line.formula.split()
        assert price.startswith("$")
        assert not any(name.startswith("$") for name in amounts)


def test_the_inputs_are_those_of_the_graph_and_of_production():
    graph = read_graph(str(ROOT / "shared" / "segue" / "features" / "jobs.yaml"), {})
    assert INPUTS["jobs"].value == len(graph.jobs)
    assert INPUTS["pipelines"].value == len(graph.pipelines)
    assert INPUTS["events"].value == 1 + sum(map(graph.has_readers, graph.jobs))
    assert INPUTS["edges"].value == sum(len(below) for below in graph.children.values())
    assert INPUTS["workers"].value == setting("num_workers")
    assert INPUTS["backups"].value == setting("backup_kept_days")


def test_a_changed_input_changes_what_depends_on_it_and_nothing_else():
    dearer = {"$object": 2 * INPUTS["$object"].value}
    changed = [line for line in LINES if compute_total([line], **dearer) != compute_amount(line)]
    assert [line.what for line in changed] == ["artifacts kept"]
    assert compute_total(ONCE, **dearer) == compute_total(ONCE)
