"""What the code uses and what Terraform makes bear the same names, derived from the same graph."""

from __future__ import annotations

import ast
import base64
import json
import re

import msgspec
import pytest
from harness.terraform import INFRA

from segue.adapters.firestore import URL as LEDGER_URL
from segue.adapters.firestore_indexes import (
    COLLECTION,
    DONE,
    build_indexes,
    list_exempt_fields,
)
from segue.adapters.pubsub import PubsubQueue
from segue.log import Action
from segue.model.graph import Graph, read_graph
from segue.model.media_file import split_uri
from segue.model.queue import list_subscriptions, list_topics
from segue.model.settings import SETTINGS, Settings
from segue_cli.function_archive import FUNCTIONS
from segue_cli.main import load_command
from segue_functions.events import DELETED, FINALIZED, PUBLISHED, SweepOrder
from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("infra")

EXPIRES = "expires_at"  # the field by which Firestore removes tombstones


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_graph(str(ROOT / "shared" / "segue" / "features" / "jobs.yaml"), {})


def functions(built) -> dict[str, dict]:
    return {
        r.name.removeprefix("segue-"): r.values
        for r in built.list_resources("google_cloudfunctions2_function")
    }


def pipelines(built) -> dict[str, dict]:
    return {r.name: r.values for r in built.list_resources("google_dataflow_flex_template_job")}


def queue(built) -> PubsubQueue:
    """The queue in the settings of a function."""
    environment = functions(built)["arrival"]["service_config"][0]["environment_variables"]
    return PubsubQueue(environment["SEGUE_QUEUE"])


def test_topics_and_subscriptions_are_those_of_the_queue(built, graph):
    there = queue(built)
    topics = {r.values["id"] for r in built.list_resources("google_pubsub_topic")}
    of = {
        r.values["id"]: r.values["topic"]
        for r in built.list_resources("google_pubsub_subscription")
    }
    wanted = {there.resource("topics", name) for name in list_topics(graph)}
    others = {there.resource("topics", name) for name in topics_beside(built)}
    assert topics == wanted | others
    read = list_subscriptions(graph)
    for one in read:
        assert of[there.resource("subscriptions", one.name)] == there.resource("topics", one.topic)
    assert len(of) == len(read) + len(others) - 1  # the sweep's is Eventarc's own


def topics_beside(built) -> set[str]:
    """The schedule's, and the dead letters of the functions that events call."""
    called = {
        r.name.removeprefix("segue-") for r in built.list_resources("google_eventarc_trigger")
    }
    return {"sweep", *(f"function-{name}-dead" for name in called)}


def test_subscriptions_are_as_the_pipelines_need_them(built):
    for each in built.list_resources("google_pubsub_subscription"):
        values = each.values
        assert values["ack_deadline_seconds"] == 600  # the adapter's longest
        assert values["message_retention_duration"] != ""
        # Dataflow honours neither on a subscription that it reads.
        assert not values["dead_letter_policy"]
        assert not values["retry_policy"]
        assert values["expiration_policy"] == [{"ttl": ""}]
        assert not values["filter"]


def test_indexes_are_those_of_the_ledgers_queries(built):
    indexes = built.list_resources("google_firestore_index")
    made = {
        tuple((f["field_path"], f["order"] or f["array_config"]) for f in r.values["fields"])
        for r in indexes
    }
    assert made == {tuple(zip(i.fields, i.modes, strict=True)) for i in build_indexes()}
    assert {r.values["collection"] for r in indexes} == {COLLECTION}


def test_only_done_has_an_index_of_its_own_and_tombstones_expire(built):
    fields = {r.values["field"]: r.values for r in built.list_resources("google_firestore_field")}
    assert set(fields) == {*list_exempt_fields(), DONE}
    for name, values in fields.items():
        assert values["collection"] == COLLECTION
        ((indexes,),) = [config.values() for config in values["index_config"]]
        assert [i["array_config"] for i in indexes] == (["CONTAINS"] if name == DONE else [])
    assert [name for name, values in fields.items() if values["ttl_config"]] == [EXPIRES]


def test_functions_are_the_modules_of_functions_with_handlers_of_their_names(built):
    for name, values in functions(built).items():
        module = ast.parse((ROOT / "functions" / "segue_functions" / f"{name}.py").read_text())
        handlers = [
            n.name for n in module.body if isinstance(n, ast.FunctionDef) and n.decorator_list
        ]
        assert values["build_config"][0]["entry_point"] in handlers
        assert values["build_config"][0]["runtime"] == "python311"
    assert set(functions(built)) == set(FUNCTIONS)


def test_functions_have_settings_that_they_read_and_can_use(built, monkeypatch):
    for name, values in functions(built).items():
        environment = values["service_config"][0]["environment_variables"]
        of_all = {"graph", "catalogue", "artifacts", "ledger", "queue"}
        wanted = of_all | ({"on_deletion"} if name == "deletion" else set())
        assert set(environment) == {SETTINGS[setting].variable for setting in wanted} | {"THREADS"}
        monkeypatch.setattr("os.environ", environment)
        settings = Settings.load()
        project = f"acme-segue-{built.name}"
        assert environment["SEGUE_GRAPH"] == "jobs.yaml"  # as segue_cli.function_archive names it
        match = LEDGER_URL.fullmatch(settings.ledger)
        (database,) = built.list_resources("google_firestore_database")
        assert (match[1], match[2]) == (project, database.values["name"])
        buckets = {r.name for r in built.list_resources("google_storage_bucket")}
        for place in (settings.catalogue, settings.artifacts):
            assert place.startswith("gs://")
            assert split_uri(place)[0] in buckets


def test_an_instance_has_a_thread_for_each_request_that_it_is_sent_at_a_time(built):
    for values in functions(built).values():
        (service,) = values["service_config"]
        threads = service["environment_variables"]["THREADS"]
        assert int(threads) == service["max_instance_request_concurrency"]


def test_the_archives_are_those_of_make_archives(built):
    archives = {
        r.values["source"].rpartition("/")[2]
        for r in built.list_resources("google_storage_bucket_object")
        if r.values["name"].startswith("functions/")
    }
    assert archives == {f"{name}.zip" for name in FUNCTIONS}
    (default,) = [p for p in load_command("package").params if p.name == "output"]
    text = (INFRA / "variables.tf").read_text()
    folder = re.search(r'variable "archives_dir" \{.*?default\s*=\s*"([^"]*)"', text, re.DOTALL)
    assert folder[1] == f"../{default.default}"


def test_triggers_are_the_events_that_the_functions_take(built):
    events = {
        r.name.removeprefix("segue-"): {
            m["attribute"]: m["value"] for m in r.values["matching_criteria"]
        }
        for r in built.list_resources("google_eventarc_trigger")
    }
    catalogue = f"acme-segue-{built.name}-segue-catalogue"
    assert events == {
        "arrival": {"type": FINALIZED, "bucket": catalogue},
        "deletion": {"type": DELETED, "bucket": catalogue},
        "sweep": {"type": PUBLISHED},
    }
    (schedule,) = built.list_resources("google_cloud_scheduler_job")
    (target,) = schedule.values["pubsub_target"]
    assert target["topic_name"] == queue(built).resource("topics", "sweep")
    # The message is an order to sweep, as the function decodes it.
    data = base64.b64decode(target["data"] or "")
    assert not data.strip() or msgspec.json.decode(data, type=SweepOrder)


def test_each_pipeline_serves_its_jobs(built, graph):
    served = {name: p["parameters"]["jobs"].split(",") for name, p in pipelines(built).items()}
    expected = {f"segue-job-{name}": sorted(jobs) for name, jobs in graph.pipelines.items()}
    assert served == expected


def test_parameters_of_the_pipelines_are_those_of_the_template(built):
    metadata = json.loads((INFRA / "container" / "metadata.json").read_text())
    known = {p["name"]: p for p in metadata["parameters"]}
    needed = {name for name, p in known.items() if not p.get("isOptional", False)}
    for values in pipelines(built).values():
        given = values["parameters"]
        assert needed <= set(given) <= set(known)
        for name, value in given.items():
            assert re.fullmatch(known[name]["regexes"][0], value), f"{name}={value}"
        assert given["mode"] == "stream"
        environment = functions(built)["arrival"]["service_config"][0]["environment_variables"]
        for name in ("catalogue", "artifacts", "ledger", "queue"):
            assert given[name] == environment[SETTINGS[name].variable]


def test_the_template_is_launched_from_an_image_and_has_all_that_the_metadata_says(built):
    (template,) = [
        r
        for r in built.list_resources("google_storage_bucket_object")
        if "templates/" in r.values["name"]
    ]
    written = json.loads(template.values["content"])
    assert written["sdkInfo"] == {"language": "PYTHON"}
    assert written["metadata"] == json.loads((INFRA / "container/metadata.json").read_text())
    for values in pipelines(built).values():
        assert values["sdk_container_image"] == written["image"]
        assert values["container_spec_gcs_path"].endswith(template.values["name"])


def test_metrics_count_the_actions_that_are_logged(built):
    outputs = {m.name: m.values["filter"] for m in built.list_resources("google_logging_metric")}
    counted: set[str] = set()
    for filter_ in outputs.values():
        for group in re.findall(r"\(([a-z_|]+)\)", filter_):
            counted |= set(group.split("|")) - set(FUNCTIONS)
    # A process that starts or stops is no event of a file, nor is what a job says meanwhile.
    said = {Action.PRINTED, Action.PROGRESS, Action.STARTED, Action.STOPPED}
    # Only the system on one machine says these.
    of_up = {Action.CHANGED, Action.MISSING, Action.PAUSED, Action.RESUMED}
    assert counted == set(Action) - said - of_up


def test_commands_in_the_alerts_exist(built):
    texts = [str(r.values) for r in built.list_resources("google_monitoring_alert_policy")]
    commands = [line.split() for text in texts for line in re.findall(r"`segue (.*?)`", text)]
    assert ["retry", "--dead-letters"] in commands
    for name, *options in commands:
        known = {option for parameter in load_command(name).params for option in parameter.opts}
        assert set(options) <= known, name


def test_dashboards_and_alerts_look_at_each_subscription_as_what_it_is(built, graph):
    monitored = ("google_monitoring_dashboard", "google_monitoring_alert_policy")
    names = set(built.list_names("google_pubsub_subscription"))
    dead = {"segue-dead", *(f"segue-{name}" for name in topics_beside(built) - {"sweep"})}
    requests = {f"segue-{pipeline}.inbox" for pipeline in graph.pipelines}
    for type_ in monitored:
        text = json.dumps([r.values for r in built.list_resources(type_)])
        patterns = set(
            re.findall(r"subscription_id=monitoring\.regex\.full_match\(\W*(.*?)\\+\"", text)
        )
        selected = [{name for name in names if re.fullmatch(p, name)} for p in sorted(patterns)]
        assert len(selected) == 3
        assert all(kind in selected for kind in (dead, requests, names - dead - requests))
