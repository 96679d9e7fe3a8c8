"""Every identity may do what its code calls, and nothing else.

``CALLS`` lists each call that the code of an identity makes; a role is there because a call needs
it. A role without a call, or a call without a role, fails. Which objects a pipeline may read and
write is also tried, with the grants and their conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pytest
from harness import access, plan

from segue.adapters.cloud_storage import CloudStorage
from segue.model.graph import SOURCE, Graph, read_graph
from segue.model.queue import (
    SOURCE_TOPIC,
    format_inbox,
    list_deletion_topics,
    list_published_topics,
    list_subscriptions,
)
from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("infra")

# API call → the narrowest predefined role that allows it.
ROLES = {
    "artifactregistry.DownloadArtifact": "roles/artifactregistry.reader",
    "artifactregistry.UploadArtifact": "roles/artifactregistry.writer",
    "dataflow.LeaseWorkItem": "roles/dataflow.worker",
    "dataflow.ListJobs": "roles/dataflow.viewer",
    "dataflow.ReportWorkItemStatus": "roles/dataflow.worker",
    "eventarc.ReceiveEvent": "roles/eventarc.eventReceiver",
    "firestore.BatchGetDocuments": "roles/datastore.user",
    "firestore.BatchWrite": "roles/datastore.user",
    "firestore.Commit": "roles/datastore.user",
    "firestore.RunQuery": "roles/datastore.user",
    "logging.WriteLogEntries": "roles/logging.logWriter",
    "pubsub.Acknowledge": "roles/pubsub.subscriber",
    "pubsub.GetSubscription": "roles/pubsub.viewer",
    "pubsub.ModifyAckDeadline": "roles/pubsub.subscriber",
    "pubsub.Publish": "roles/pubsub.publisher",
    "pubsub.StreamingPull": "roles/pubsub.subscriber",
    "run.Invoke": "roles/run.invoker",
    "storage.objects.create": "roles/storage.objectCreator",
    "storage.objects.get": "roles/storage.objectViewer",
    "storage.objects.list": "roles/storage.objectViewer",
    "storage.objects.rewrite": "roles/storage.objectUser",  # creates, reads and deletes
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call goes; {} stands for the project."""

    on: str
    condition: str = ""


LEDGER = Place("project:{}", 'resource.name == "projects/{}/databases/segue"')
CATALOGUE = Place("bucket:{}-segue-catalogue")
RUNS = Place(
    "bucket:{}-segue-artifacts",
    'resource.name == "projects/_/buckets/{}-segue-artifacts" || '
    'resource.name.startsWith("projects/_/buckets/{}-segue-artifacts/objects/_runs/")',
)
CODE = Place("bucket:{}-segue-code")
SOURCES = Place("project:{}", 'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")')
PROJECT = Place("project:{}")
NO_OBJECTS = Place("project:{}", 'resource.type != "storage.googleapis.com/Object"')
ALL_RESULTS = Place(
    "bucket:{}-segue-artifacts",
    'resource.name.startsWith("projects/_/buckets/{}-segue-artifacts/objects/") && '
    '!resource.name.startsWith("projects/_/buckets/{}-segue-artifacts/objects/_runs/")',
)
IMAGES = Place("repository:segue-pipelines")

Calls = Iterable[tuple[str, Place]]


def below(bucket: str, *folders: str, or_bucket: bool = False) -> Place:
    """The objects below some folders of a bucket, and the listing of the bucket itself."""
    name = f"projects/_/buckets/{{}}-segue-{bucket}"
    conditions = [f'resource.name == "{name}"'] if or_bucket else []
    conditions += [f'resource.name.startsWith("{name}/objects/{f}/")' for f in folders]
    return Place(f"bucket:{{}}-segue-{bucket}", " || ".join(conditions))


def topics(names: Iterable[str]) -> list[Place]:
    return [Place(f"topic:segue-{name}") for name in names]


def use_ledger() -> Calls:
    """Reads and writes records, after a look at what the ledger contains, or a note that it is new.

    A look into an empty ledger is a query, and so is the search of the sweep and of a backfill.
    """
    yield "firestore.BatchGetDocuments", LEDGER
    yield "firestore.BatchWrite", LEDGER
    yield "firestore.Commit", LEDGER
    yield "firestore.RunQuery", LEDGER


def arrival(_graph: Graph) -> Calls:
    """Records, and publishes the arrival."""
    yield from use_ledger()
    yield "eventarc.ReceiveEvent", PROJECT
    yield "run.Invoke", Place("service:segue-arrival")
    for place in topics([SOURCE_TOPIC]):
        yield "pubsub.Publish", place


def deletion(graph: Graph) -> Calls:
    """Leaves a tombstone; artifacts are kept in all of the environments here."""
    yield from use_ledger()
    yield "eventarc.ReceiveEvent", PROJECT
    yield "run.Invoke", Place("service:segue-deletion")
    for place in topics(list_deletion_topics(graph)):
        yield "pubsub.Publish", place


def request(graph: Graph) -> Calls:
    """Looks at files, keeps what was asked for, and asks."""
    yield from use_ledger()
    yield "storage.objects.get", CATALOGUE
    yield "storage.objects.list", CATALOGUE
    yield "storage.objects.create", RUNS
    yield "storage.objects.get", RUNS
    yield "storage.objects.list", RUNS  # or what is not there would be forbidden
    for place in topics(map(format_inbox, graph.pipelines)):
        yield "pubsub.Publish", place


def sweep(graph: Graph) -> Calls:
    """Finds what was left lying, and requests it again."""
    yield from use_ledger()
    yield "run.Invoke", Place("service:segue-sweep")
    for place in topics(map(format_inbox, graph.pipelines)):
        yield "pubsub.Publish", place


def works(identity: str, parents: Iterable[str], results: Place) -> Calls:
    """What every pipeline does."""
    yield "dataflow.LeaseWorkItem", NO_OBJECTS
    yield "dataflow.ReportWorkItemStatus", NO_OBJECTS
    yield "artifactregistry.DownloadArtifact", IMAGES
    staged = below("work", f"staging/{identity}", f"temp/{identity}", or_bucket=True)
    yield "storage.objects.rewrite", staged
    yield "storage.objects.get", CATALOGUE
    yield "storage.objects.list", CATALOGUE  # or a missing file would be forbidden
    yield "storage.objects.rewrite", results  # what is forced takes the other's place
    parents_results = below("artifacts", *sorted(parents), or_bucket=True)
    yield "storage.objects.get", parents_results
    yield "storage.objects.list", parents_results
    yield from use_ledger()


def backfill(_graph: Graph) -> Calls:
    """Lists, or asks the ledger, and works on all jobs; its launcher writes a record of it."""
    yield from works("segue-backfill", (), ALL_RESULTS)
    yield "storage.objects.create", below("artifacts", "_runs")


def streaming(graph: Graph, identity: str) -> Calls:
    """Reads its subscriptions, works, and publishes results, requests and dead letters."""
    pipeline = identity.removeprefix("segue-job-")
    jobs = graph.pipelines[pipeline]
    parents = {parent for job in jobs for parent in graph.jobs[job].parents} - {*jobs, SOURCE}
    yield from works(identity, parents, below("artifacts", *sorted(jobs)))
    yield "dataflow.ListJobs", PROJECT  # Beam, with --update
    for one in list_subscriptions(graph, [pipeline]):
        for call in ("GetSubscription", "StreamingPull", "Acknowledge", "ModifyAckDeadline"):
            yield f"pubsub.{call}", Place(f"subscription:segue-{one.name}")
    for place in topics(list_published_topics(graph, [pipeline])):
        yield "pubsub.Publish", place


def builder(_graph: Graph) -> Calls:
    """Builds the functions' containers and the pipelines' image."""
    yield "logging.WriteLogEntries", PROJECT
    yield "storage.objects.get", CODE
    yield "storage.objects.get", SOURCES
    for name in ("cache", "functions", "pipelines"):
        yield "artifactregistry.UploadArtifact", Place(f"repository:segue-{name}")


CALLS: Mapping[str, Callable[[Graph], Calls]] = {
    "segue-fn-arrival": arrival,
    "segue-fn-deletion": deletion,
    "segue-fn-request": request,
    "segue-fn-sweep": sweep,
    "segue-backfill": backfill,
    "segue-builder": builder,
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_graph(str(ROOT / "shared" / "segue" / "features" / "jobs.yaml"), {})


def calls_of(identity: str, graph: Graph) -> Calls:
    if identity in CALLS:
        return CALLS[identity](graph)
    return streaming(graph, identity)


def jobs_of(identity: str, graph: Graph) -> tuple[str, ...]:
    return graph.pipelines[identity.removeprefix("segue-job-")]


def test_every_identity_has_exactly_the_roles_that_its_calls_need(built, graph):
    project = f"acme-segue-{built.name}"
    found = built.list_resources()
    identities = built.list_names("google_service_account")
    assert set(CALLS) <= set(identities)
    for identity in identities:
        member = f"serviceAccount:{identity}@{project}.iam.gserviceaccount.com"
        granted = {g for g in plan.list_grants(found) if g.member == member}
        needed = {
            plan.Grant(
                member=member,
                role=ROLES[call],
                on=place.on.replace("{}", project),
                condition=place.condition.replace("{}", project),
            )
            for call, place in calls_of(identity, graph)
        }
        assert {str(g) for g in granted - needed} == set(), f"{identity} may do too much"
        assert {str(g) for g in needed - granted} == set(), f"{identity} lacks a role"


# Method of the object store → the permissions that its requests need.
OBJECT_CALLS = {
    "create": {"storage.objects.create", "storage.objects.delete"},  # it may replace an object
    "delete": {"storage.objects.delete"},
    "fetch": {"storage.objects.get"},
    "identify": {"storage.objects.get"},
    "list": {"storage.objects.list"},
    "read": {"storage.objects.get"},
    "read_part": {"storage.objects.get"},
    "stat": {"storage.objects.get"},
}
WRITES = ("create", "delete")
READS = ("fetch", "identify", "read", "read_part", "stat")
WITHOUT_REQUEST = {"close", "doubt_absence", "sync", "uri"}


def test_every_method_of_the_object_store_has_its_permissions():
    methods = {name for name in vars(CloudStorage) if not name.startswith("_")} - WITHOUT_REQUEST
    assert methods == set(OBJECT_CALLS)


def may(grants: Iterable[plan.Grant], methods: Iterable[str], resource: str) -> set[bool]:
    """Whether an identity may call these methods on an object or a bucket."""
    return {
        access.is_allowed(grants, permission, resource)
        for method in methods
        for permission in OBJECT_CALLS[method]
    }


def test_a_pipeline_writes_only_results_of_its_jobs_and_reads_only_those_of_their_parents(
    built, graph
):
    project = f"acme-segue-{built.name}"
    results, work = f"{project}-segue-artifacts", f"{project}-segue-work"
    every = plan.list_grants(built.list_resources())
    pipelines = built.list_names("google_dataflow_flex_template_job")
    for identity in [*pipelines, "segue-backfill"]:
        member = f"serviceAccount:{identity}@{project}.iam.gserviceaccount.com"
        grants = [g for g in every if g.member == member]
        own = set(graph.jobs if identity == "segue-backfill" else jobs_of(identity, graph))
        readable = own | {p for job in own for p in graph.jobs[job].parents}
        for job in graph.jobs:
            result = f"{results}/{job}/0123456789ab/song.flac/1.json"
            assert may(grants, WRITES, result) == {job in own}, (identity, job)
            assert may(grants, READS, result) == {job in readable}, (identity, job)
            longer = f"{results}/{job}_2/0123456789ab/song.flac/1.json"
            assert may(grants, WRITES, longer) == {identity == "segue-backfill"}
        run = f"{results}/_runs/1.json"
        may_create = access.is_allowed(grants, "storage.objects.create", run)
        assert may_create == (identity == "segue-backfill")
        assert may(grants, ["delete", *READS], run) == {False}
        for other in [*pipelines, "segue-backfill"]:
            for folder in ("staging", "temp"):
                staged = f"{work}/{folder}/{other}/pipeline.pb"
                assert may(grants, (*WRITES, *READS), staged) == {other == identity}
        assert may(grants, READS, f"{project}-segue-catalogue/song.flac") == {True}
        assert may(grants, WRITES, f"{project}-segue-catalogue/song.flac") == {False}
        for bucket in (results, work, f"{project}-segue-catalogue"):
            assert may(grants, ["list"], bucket) == {True}  # or what is missing is forbidden
        for name in ("functions/arrival.zip", "templates/segue.json", "builds/1.tgz"):
            assert may(grants, (*WRITES, *READS), f"{project}-segue-code/{name}") == {False}


def test_a_catalogue_below_a_prefix_is_read_there_and_nowhere_else(environments, graph):
    catalogue = '-var=catalogue={bucket="masters",create=false,location="eu",prefix="music"}'
    planned, _ = environments("dev").tree.plan("dev", catalogue)
    every = plan.list_grants(plan.list_resources(planned))
    readers = {g.member for g in every if g.on == "bucket:masters"}
    names = {member.partition(":")[2].partition("@")[0] for member in readers}
    assert names == {
        *(f"segue-job-{pipeline}" for pipeline in graph.pipelines),
        "segue-backfill",
        "segue-fn-request",
    }
    for member in readers:
        grants = [g for g in every if g.member == member]
        assert may(grants, READS, "masters/music/song.flac") == {True}
        for name in ("music-private/song.flac", "musical.flac", "other/music/song.flac"):
            assert may(grants, READS, f"masters/{name}") == {False}
        assert may(grants, ["list"], "masters") == {True}
        assert may(grants, WRITES, "masters/music/song.flac") == {False}


def test_nobody_else_may_do_anything_but_googles_own_agents_and_who_is_named(built):
    found = built.list_resources()
    domain = f"@acme-segue-{built.name}.iam.gserviceaccount.com"
    others = {g for g in plan.list_grants(found) if not g.member.endswith(domain)}
    agents = {g for g in others if re.search(r"service-\d+@(gcp-sa|gs-project)-", g.member)}
    assert {g.role for g in agents} == {
        "roles/eventarc.serviceAgent",
        "roles/pubsub.publisher",
        "roles/pubsub.serviceAgent",
        "roles/pubsub.subscriber",
    }
    people = {(g.member, g.role) for g in others - agents}
    assert people == (PEOPLE if built.name == "prod" else set())


PEOPLE = {
    ("group:audio-curators@example.com", "roles/run.invoker"),
    ("group:audio-platform@example.com", "roles/dataflow.developer"),
    ("group:audio-platform@example.com", "roles/iam.serviceAccountUser"),
    ("group:audio-platform@example.com", "roles/storage.objectViewer"),
}


def test_every_agent_that_is_requested_has_its_role(environments):
    key = "projects/acme/locations/europe-west1/keyRings/segue/cryptoKeys/segue"
    planned, _ = environments("dev").tree.plan("dev", f"-var=kms_key={key}")
    found = plan.list_resources(planned)
    requested = {r.values["service"] for r in found if r.type == "google_project_service_identity"}
    roles = {r.values["role"] for r in found if r.type == "google_project_iam_member"}
    granted = {role for role in roles if role.endswith(".serviceAgent")}
    assert {"eventarc.googleapis.com", "dataflow.googleapis.com"} < requested
    assert granted == {f"roles/{name.partition('.')[0]}.serviceAgent" for name in requested}


def test_the_table_names_the_calls_that_the_adapters_make(graph):
    """What an adapter calls is found in its source, so that a new call is missed in the table."""
    adapters = ROOT / "shared" / "segue" / "adapters"
    source = (adapters / "firestore.py").read_text()
    methods = {  # of Google's client
        "client.get_all": "BatchGetDocuments",
        "document.get": "BatchGetDocuments",
        "document.create": "Commit",
        "document.update": "Commit",
        "batch.commit": "BatchWrite",
        "collection.limit.get": "RunQuery",
        "selected.stream": "RunQuery",
        "query.get": "RunAggregationQuery",
    }
    source = source.replace("options = call_once(timeout_s)", "")
    source = source.replace("**options", "**call_once(timeout_s)")
    source = source.replace("client.collection(COLLECTION).limit(1).get", "collection.limit.get")
    calls = re.findall(r"((?:\w+\.)+\w+)\([^()]*\*\*call_once", source)
    assert len(calls) == source.count("call_once(")
    firestore = {methods[call] for call in calls}
    # Only the command line counts, by the rights of who calls it.
    assert firestore - {"RunAggregationQuery"} == {
        call.partition(".")[2] for call in ROLES if call.startswith("firestore.")
    }
    pubsub = (adapters / "pubsub.py").read_text()
    methods = set(re.findall(r'(?:connection\.\w+er\.|_send_ack_ids\(\s*")(\w+)', pubsub))
    assert methods == {"publish", "pull", "acknowledge", "modify_ack_deadline"}
    everyone = [*CALLS, *(f"segue-job-{job}" for job in graph.jobs)]
    assert set(ROLES) == {call for identity in everyone for call, _ in calls_of(identity, graph)}


def test_removing_artifacts_takes_a_role_of_its_own(environments):
    planned, _ = environments("dev").tree.plan("dev", "-var=on_deletion=remove")
    found = plan.list_resources(planned)
    (role,) = [r.values for r in found if r.type == "google_project_iam_custom_role"]
    # Deletions.take lists a file's artifacts, and deletes them by generation.
    assert set(role["permissions"]) == {
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
    }
    (granted,) = [
        r for r in found if r.address.endswith('google_storage_bucket_iam_member.object["remove"]')
    ]
    assert granted.values["bucket"] == "acme-segue-dev-segue-artifacts"
    assert granted.values["member"].startswith("serviceAccount:segue-fn-deletion@")
