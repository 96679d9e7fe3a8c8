"""Indexes and credentials are those that this user has set for pip, uv, npm and Hugging Face."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from segue.errors import ConfigurationError
from segue.models.package_index import find_node_registry, find_python_index, read_tokens

PIP = "pip._internal.models.index"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY", "NPM_CONFIG_USERCONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CONFIG_HOME", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pip_file(home, text: str) -> None:
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(text)


@pytest.fixture
def default(monkeypatch) -> str:
    """The default of pip."""
    found = SimpleNamespace(PyPI=SimpleNamespace(simple_url="https://default.org/simple"))
    monkeypatch.setitem(sys.modules, PIP, found)
    return found.PyPI.simple_url


def test_without_any_setting_they_are_the_defaults_of_pip_and_npm(home, monkeypatch, default):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    npm = home / "npm"
    npm.write_text("#!/bin/sh\necho https://$3.org/$1/$2\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(home))
    assert find_python_index() == default
    assert find_node_registry("human") == "https://registry.org/config/get"
    assert read_tokens() == {}


def test_the_installed_pip_has_a_default(monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert find_python_index().startswith("https://")


def test_without_pip_and_npm_the_setting_is_named(home, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setitem(sys.modules, PIP, None)
    with pytest.raises(ConfigurationError, match="set PIP_INDEX_URL, or install pip"):
        find_python_index()
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(ConfigurationError, match="set npm_config_registry, or install npm"):
        find_node_registry("human")


def test_pip_s_file_names_the_index(home):
    write_pip_file(home, "[global]\nindex-url = https://a.org/simple\n")
    assert find_python_index() == "https://a.org/simple"


def test_a_variable_precedes_pip_s_file(home, monkeypatch):
    write_pip_file(home, "[global]\nindex-url = https://a.org/simple\n")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "acme=https://uv.org/simple")
    assert find_python_index() == "https://uv.org/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.org/simple?a=b")
    assert find_python_index() == "https://pip.org/simple?a=b"


@pytest.mark.parametrize("data", [b"index-url", b"[global\n", b"[global]\nindex-url", b"\xff"])
def test_a_pip_file_that_cannot_be_read_is_ignored(home, monkeypatch, default, data):
    (home / "pip.conf").write_bytes(data)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(home / "pip.conf"))
    assert find_python_index() == default


def test_npm_s_files_name_the_registry_also_of_a_scope(home, monkeypatch):
    (home / ".npmrc").write_text(
        "# mine\nregistry=https://a.org/npm\n@acme:registry = https://acme.org/npm/\n"
        "//acme.org/npm/:_authToken=${ACME_TOKEN}\n"
    )
    monkeypatch.setenv("ACME_TOKEN", "t0ken")
    assert find_node_registry("human") == "https://a.org/npm"
    assert find_node_registry("@acme/human") == "https://acme.org/npm/"
    assert read_tokens() == {"acme.org": "Bearer t0ken"}
    monkeypatch.setenv("npm_config_registry", "https://env.org")
    assert find_node_registry("human") == "https://env.org"


def test_the_token_of_hugging_face_is_for_its_host_alone(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_1")
    assert read_tokens() == {"huggingface.co": "Bearer hf_1"}
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.org/hf/")
    assert read_tokens() == {"mirror.org": "Bearer hf_1"}
