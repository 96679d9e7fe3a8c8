"""A table of BigQuery: loaded from Parquet, and changed by statements."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from segue.errors import ConfigurationError, Unavailable

SCHEME = "bigquery://"
URL = re.compile(r"bigquery://([a-z0-9.:-]+)/(\w+)\.([\w-]+)")
EMULATOR = "BIGQUERY_EMULATOR_HOST"  # which Google's client knows, too
RETRY_S = 120.0
KEPT = timedelta(days=1)  # a table for a while, whose process may have been killed
REMEDIES = {
    400: "check the message; a table whose types have changed has to be replaced by a new one",
    403: "grant roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project",
    404: "create the dataset first: bq mk --dataset PROJECT:DATASET",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetFiles:
    """What to load: a file on this machine, or objects of Cloud Storage."""

    path: str | None = None
    uris: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BigQueryColumn:
    """A column of a table."""

    name: str
    kind: str  # such as INTEGER
    is_repeated: bool
    field: Any  # of Google's client


class BigQueryTable:
    """A table, and tables beside it in its dataset that are kept for a while.

    Raises ``ConfigurationError``, with the remedy, for what BigQuery refuses, and ``Unavailable``
    if it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        """Parse ``bigquery://project/dataset.table`` and connect."""
        found = URL.fullmatch(url)
        if found is None:
            raise ConfigurationError(
                f"{url!r} is no table of BigQuery; write bigquery://project/dataset.table"
            )
        self.url = url
        self.project, self.dataset, self.name = found.groups()
        with self._translate_errors():
            self._client = self._connect()
            self._client.get_dataset(f"{self.project}.{self.dataset}", retry=self._retry)

    def _connect(self) -> Any:
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.bigquery import DEFAULT_RETRY, Client

        if os.environ.get(EMULATOR):
            credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
        else:
            credentials, _ = google.auth.default(scopes=Client.SCOPE)
        self._retry = DEFAULT_RETRY.with_timeout(RETRY_S)
        return Client(project=self.project, credentials=credentials)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def quote(self, name: str | None = None) -> str:
        """Return the name of the table, or of one beside it, for statements."""
        return f"`{self._qualify(name)}`"

    def _qualify(self, name: str | None) -> str:
        return f"{self.project}.{self.dataset}.{name or self.name}"

    def find_columns(self, name: str | None = None) -> list[BigQueryColumn] | None:
        """Return the columns of the table, or of one beside it; None if it does not exist."""
        from google.api_core.exceptions import NotFound

        with self._translate_errors():
            try:
                table = self._client.get_table(self._qualify(name), retry=self._retry)
            except NotFound:
                return None
        return [
            BigQueryColumn(
                name=field.name,
                kind=field.field_type,
                is_repeated=field.mode == "REPEATED",
                field=field,
            )
            for field in table.schema
        ]

    def load(self, name: str, files: ParquetFiles) -> None:
        """Replace a table beside this one by what some files have; it is removed after a day."""
        from google.cloud.bigquery import (
            LoadJobConfig,
            ParquetOptions,
            SourceFormat,
            WriteDisposition,
        )

        options = ParquetOptions()  # type: ignore[no-untyped-call]
        options.enable_list_inference = True  # else a list is a record with a field ``list``
        config = LoadJobConfig(
            source_format=SourceFormat.PARQUET,
            write_disposition=WriteDisposition.WRITE_TRUNCATE,
            parquet_options=options,
        )
        place = self._qualify(name)
        with self._translate_errors():
            if files.path is not None:
                with open(files.path, "rb") as file:
                    job = self._client.load_table_from_file(
                        file, place, size=os.path.getsize(files.path), job_config=config
                    )
            else:
                job = self._client.load_table_from_uri(list(files.uris), place, job_config=config)
            job.result(retry=self._retry)
            table = self._client.get_table(place, retry=self._retry)
            table.expires = datetime.now().astimezone() + KEPT
            self._client.update_table(table, ["expires"], retry=self._retry)

    def add_columns(self, columns: Sequence[BigQueryColumn]) -> None:
        """Add columns to the table; what it has gets nulls there."""
        with self._translate_errors():
            table = self._client.get_table(self._qualify(None), retry=self._retry)
            table.schema = [*table.schema, *(column.field for column in columns)]
            self._client.update_table(table, ["schema"], retry=self._retry)

    def query(self, statement: str, **parameters: str | datetime) -> list[Mapping[str, Any]]:
        """Run a statement to its end, and return its rows, by column."""
        from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

        kinds = {str: "STRING", datetime: "TIMESTAMP"}
        given = [
            ScalarQueryParameter(name, kinds[type(value)], value)
            for name, value in parameters.items()
        ]
        with self._translate_errors():
            config = QueryJobConfig(query_parameters=given)
            job = self._client.query(statement, job_config=config, retry=self._retry)
            return [dict(row.items()) for row in job.result(retry=self._retry)]

    def drop(self, *names: str) -> None:
        """Remove tables beside this one, as far as they exist."""
        with self._translate_errors():
            for name in names:
                self._client.delete_table(self._qualify(name), not_found_ok=True)

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except DefaultCredentialsError as error:
            raise ConfigurationError(
                f"{self.url}: no credentials ({error}); run 'gcloud auth application-default login'"
            ) from error
        except GoogleAPICallError as error:
            if (remedy := REMEDIES.get(error.code or 0)) is not None:
                raise ConfigurationError(f"{self.url}: {error.message}; {remedy}") from error
            raise Unavailable(f"{self.url}: {error.message}; try again later") from error
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            raise Unavailable(f"{self.url}: {error}; try again later") from error
