"""Settings: the option before the environment before the default."""

from __future__ import annotations

from dataclasses import fields

import pytest

from segue.errors import ConfigurationError
from segue.model.settings import SETTINGS, Settings

JOBS = "jobs: {a: {run: 'm:f', needs: {m: source}, writes: audio/flac}}\n"
GRAPH = "catalogue: ${SEGUE_CATALOGUE:-gs://graph}\nartifacts: gs://graph-out\n" + JOBS


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)
    return tmp_path


def test_each_setting_is_documented_and_has_its_own_variable():
    assert set(SETTINGS) == {f.name for f in fields(Settings)}
    variables = [s.variable for s in SETTINGS.values()]
    assert len(set(variables)) == len(variables)
    assert all(v.startswith("SEGUE_") for v in variables)


def test_everything_has_a_default_that_works_on_a_laptop(here):
    assert Settings.load() == Settings()
    assert Settings().ledger == "sqlite:///.segue/ledger.db"


@pytest.mark.parametrize("name", ["graph", "catalogue", "artifacts", "ledger"])
def test_an_option_goes_before_the_environment_and_that_before_the_default(here, monkeypatch, name):
    monkeypatch.setenv(SETTINGS[name].variable, "from the environment")
    assert getattr(Settings.load(**{name: "option"}), name) == "option"
    assert getattr(Settings.load(**{name: None}), name) == "from the environment"
    monkeypatch.setenv(SETTINGS[name].variable, "")
    assert getattr(Settings.load(), name) == getattr(Settings(), name)


def test_numbers_are_read_from_text(monkeypatch):
    monkeypatch.setenv("SEGUE_PRICE_PER_VCPU_HOUR", "0.04")
    monkeypatch.setenv("SEGUE_VCPUS", "9600")
    found = Settings.load()
    assert (found.price, found.vcpus) == (0.04, 9600)
    assert type(found.vcpus) is int
    assert Settings.load(price=1.5, vcpus=2).price == 1.5


@pytest.mark.parametrize("name", ["price", "vcpus"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "nan", "inf", "1,5", "0x10", " "])
def test_what_is_no_number_is_refused_with_the_variable_and_the_value(monkeypatch, name, value):
    monkeypatch.setenv(SETTINGS[name].variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert SETTINGS[name].variable in str(caught.value)
    assert repr(value) in str(caught.value)


def test_half_a_processor_is_no_number_of_processors(monkeypatch):
    monkeypatch.setenv("SEGUE_VCPUS", "2.5")
    with pytest.raises(ConfigurationError, match=r"'2\.5', which is not a whole number"):
        Settings.load()


def test_the_graph_that_is_named_goes_before_the_one_here_and_that_before_the_shipped_one(here):
    shipped = here / "shipped.yaml"
    shipped.write_text(JOBS)
    assert Settings().load_graph(str(shipped)).path == str(shipped)
    (here / "jobs.yaml").write_text(JOBS)
    assert Settings().load_graph(str(shipped)).path == "jobs.yaml"
    (here / "named.yaml").write_text(JOBS)
    assert Settings(graph="named.yaml").load_graph(str(shipped)).path == "named.yaml"


def test_without_any_graph_the_error_says_what_to_do(here):
    with pytest.raises(ConfigurationError, match=r"segue init.*SEGUE_GRAPH"):
        Settings().load_graph()


def test_a_named_graph_that_is_not_there_is_not_replaced_by_another(here):
    (here / "jobs.yaml").write_text(JOBS)
    with pytest.raises(ConfigurationError, match=r"'none\.yaml' cannot be read"):
        Settings(graph="none.yaml").load_graph("jobs.yaml")


def test_what_the_settings_say_of_places_goes_before_what_the_graph_says(here, monkeypatch):
    (here / "jobs.yaml").write_text("catalogue: gs://graph\n" + JOBS)
    assert Settings.load(catalogue="gs://option").load_graph().catalogue == "gs://option"
    (here / "jobs.yaml").write_text(GRAPH)
    plain = Settings.load().load_graph()
    assert (plain.catalogue, plain.artifacts) == ("gs://graph", "gs://graph-out")
    monkeypatch.setenv("SEGUE_CATALOGUE", "gs://environment")
    assert Settings.load().load_graph().catalogue == "gs://environment"
    said = Settings.load(catalogue="gs://option", artifacts="gs://option-out").load_graph()
    assert (said.catalogue, said.artifacts) == ("gs://option", "gs://option-out")


def test_an_option_fills_the_variable_that_the_graph_requires(here):
    (here / "jobs.yaml").write_text("catalogue: ${SEGUE_CATALOGUE}\n" + JOBS)
    with pytest.raises(ConfigurationError, match="SEGUE_CATALOGUE is not set"):
        Settings().load_graph()
    assert Settings(catalogue="gs://option").load_graph().catalogue == "gs://option"


def test_with_a_namespace_the_default_places_are_below_its_folder(here):
    (here / "jobs.yaml").write_text(f"namespace: moods\n{JOBS}")
    found = Settings.load()
    assert found.ledger == "sqlite:///.segue/moods/ledger.db"
    assert found.queue == "sqlite:///.segue/moods/queue.db"
    assert found.load_graph().artifacts == ".segue/moods/artifacts"
    (here / "other.yaml").write_text(f"namespace: charts\n{JOBS}")
    assert Settings.load(graph="other.yaml").ledger == "sqlite:///.segue/charts/ledger.db"
    assert Settings.load(ledger="sqlite:///l.db").ledger == "sqlite:///l.db"


def test_a_registry_is_set_as_the_other_places_are(here, monkeypatch):
    (here / "jobs.yaml").write_text(f"registry: gs://graph\n{JOBS}")
    assert Settings.load().load_graph().registry == "gs://graph"
    monkeypatch.setenv("SEGUE_REGISTRY", "gs://environment")
    assert Settings.load().load_graph().registry == "gs://environment"
    assert Settings.load(registry="gs://option").load_graph().registry == "gs://option"
