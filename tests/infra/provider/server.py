"""A provider that serves a schema to the real Terraform over its plugin protocol, version 6.

Three traits of the real one are not in its schema: what a change replaces, what a job loses when it
is read back, and an index that takes longer than it waits.
"""

# ruff: noqa: N802 - the protocol names the methods

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from provider import flex_jobs, indexes
from provider.behaviour import apply_plan, find_read_only, plan_resource, read_data
from provider.replacement import list_replacing
from provider.values import decode, encode
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

if TYPE_CHECKING:
    from provider.schema import Block, Schema

MAX_MESSAGE_BYTES = 256 << 20
NESTING = pb.Schema.NestedBlock.NestingMode
MODES = {
    "single": NESTING.SINGLE,
    "list": NESTING.LIST,
    "set": NESTING.SET,
    "map": NESTING.MAP,
}


class StandIn(rpc.ProviderServicer):  # type: ignore[misc]  # generated, untyped
    """A provider whose resources exist only in Terraform's state, except jobs and large indexes."""

    def __init__(self, schema: Schema, published: Collection[str]) -> None:
        self._schema = schema
        self._settings: dict[str, Any] = {}
        self._jobs = flex_jobs.FlexJobs(published)
        self._indexes = indexes.Indexes()

    def GetMetadata(self, _request: Any, _context: Any) -> pb.GetMetadata.Response:
        """List the types; Terraform must still ask for the schema."""
        return pb.GetMetadata.Response(
            server_capabilities=pb.ServerCapabilities(get_provider_schema_optional=False),
            resources=[
                pb.GetMetadata.ResourceMetadata(type_name=t) for t in self._schema.resources
            ],
            data_sources=[
                pb.GetMetadata.DataSourceMetadata(type_name=t) for t in self._schema.data_sources
            ],
        )

    def GetProviderSchema(self, _request: Any, _context: Any) -> pb.GetProviderSchema.Response:
        """Return the whole schema, for which every command of Terraform asks."""
        return self._response

    @functools.cached_property
    def _response(self) -> pb.GetProviderSchema.Response:
        return pb.GetProviderSchema.Response(
            provider=_build_schema(self._schema.provider),
            provider_meta=pb.Schema(version=0, block=pb.Schema.Block()),
            resource_schemas=_build_schemas(self._schema.resources),
            data_source_schemas=_build_schemas(self._schema.data_sources),
        )

    def GetFunctions(self, _request: Any, _context: Any) -> pb.GetFunctions.Response:
        """Return none."""
        return pb.GetFunctions.Response()

    def ValidateProviderConfig(
        self, _request: Any, _context: Any
    ) -> pb.ValidateProviderConfig.Response:
        """Accept the settings: Terraform itself has checked them against the schema."""
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(
        self, request: Any, _context: Any
    ) -> pb.ValidateResourceConfig.Response:
        """Refuse what only the provider may set: Terraform does not check that."""
        block = self._schema.resources[request.type_name]
        return pb.ValidateResourceConfig.Response(
            diagnostics=[
                pb.Diagnostic(
                    severity=pb.Diagnostic.ERROR,
                    summary="Value for unconfigurable attribute",
                    detail=f"{place} is set by the provider; leave it out.",
                )
                for place in find_read_only(block, decode(request.config))
            ]
        )

    def ValidateDataResourceConfig(
        self, _request: Any, _context: Any
    ) -> pb.ValidateDataResourceConfig.Response:
        """Accept it: Terraform itself has checked it against the schema."""
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, _context: Any) -> pb.ConfigureProvider.Response:
        """Remember the project and the default labels."""
        self._settings = decode(request.config)
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, _context: Any) -> pb.UpgradeResourceState.Response:
        """Return the state: it is never older than this schema."""
        state = encode(json.loads(request.raw_state.json))
        return pb.UpgradeResourceState.Response(upgraded_state=state)

    def ReadResource(self, request: Any, _context: Any) -> pb.ReadResource.Response:
        """Return the state: nothing else changes a resource; a job is what is read of it."""
        state = request.current_state
        if request.type_name == flex_jobs.TYPE:
            state = encode(self._jobs.read(decode(state)))
        return pb.ReadResource.Response(new_state=state, private=request.private)

    def PlanResourceChange(self, request: Any, _context: Any) -> pb.PlanResourceChange.Response:
        """Plan a resource; null is its removal."""
        values, prior = decode(request.proposed_new_state), decode(request.prior_state)
        replacing: list[str] = []
        if values is not None:
            type_ = request.type_name
            block = self._schema.resources[type_]
            values = plan_resource(type_, block, values, self._settings, prior)
            replacing = list_replacing(type_, prior, values) if prior is not None else []
        return pb.PlanResourceChange.Response(
            planned_state=encode(values),
            requires_replace=[
                pb.AttributePath(steps=[pb.AttributePath.Step(attribute_name=name)])
                for name in replacing
            ],
            legacy_type_system=True,
        )

    def ApplyResourceChange(self, request: Any, _context: Any) -> pb.ApplyResourceChange.Response:
        """Create, change or remove a resource."""
        values, type_ = decode(request.planned_state), request.type_name
        if values is not None:
            if type_ == indexes.TYPE and decode(request.prior_state) is None:
                fault = self._indexes.create(values)
                if fault is not None:
                    return _build_failure(fault)
            values = apply_plan(type_, self._schema.resources[type_], values)
            if type_ == flex_jobs.TYPE:
                values = self._jobs.launch(values)
        return pb.ApplyResourceChange.Response(new_state=encode(values), legacy_type_system=True)

    def ReadDataSource(self, request: Any, _context: Any) -> pb.ReadDataSource.Response:
        """Read a data source."""
        type_ = request.type_name
        block = self._schema.data_sources[type_]
        values = read_data(type_, block, decode(request.config), self._settings)
        return pb.ReadDataSource.Response(state=encode(values))

    def StopProvider(self, _request: Any, _context: Any) -> pb.StopProvider.Response:
        """Do nothing: no call takes long."""
        return pb.StopProvider.Response()


def serve(schema: Schema, published: Collection[str]) -> tuple[grpc.Server, str]:
    """Serve a schema on a free port of this machine; return the server and its address.

    ``published`` names the options that a job tells Dataflow.
    """
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=options)
    rpc.add_ProviderServicer_to_server(StandIn(schema, published), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


def _build_failure(summary: str) -> pb.ApplyResourceChange.Response:
    """Fail to create a resource, and leave nothing of it in the state."""
    return pb.ApplyResourceChange.Response(
        new_state=encode(None),
        diagnostics=[pb.Diagnostic(severity=pb.Diagnostic.ERROR, summary=summary)],
    )


def _build_schemas(blocks: Mapping[str, Block]) -> dict[str, pb.Schema]:
    return {type_: _build_schema(block) for type_, block in blocks.items()}


def _build_schema(block: Block) -> pb.Schema:
    return pb.Schema(version=0, block=_build_block(block))


def _build_block(block: Block) -> pb.Schema.Block:
    return pb.Schema.Block(
        version=0,
        attributes=[
            pb.Schema.Attribute(
                name=name,
                type=json.dumps(a.type).encode(),
                required=a.required,
                optional=a.optional,
                computed=a.computed,
            )
            for name, a in sorted(block.attributes.items())
        ],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                block=_build_block(nested.block),
                nesting=MODES[nested.mode],
                min_items=nested.min_items,
                max_items=nested.max_items,
            )
            for name, nested in sorted(block.blocks.items())
        ],
    )
