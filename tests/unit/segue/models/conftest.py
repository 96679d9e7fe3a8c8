"""A server to get models from, and settings that name nothing else."""

from __future__ import annotations

import pytest

from segue_support.web_server import serve_pages


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CONFIG_HOME", "NPM_CONFIG_USERCONFIG", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with serve_pages() as serving:
        monkeypatch.setenv("PIP_INDEX_URL", f"{serving.url}/simple")
        monkeypatch.setenv("npm_config_registry", f"{serving.url}/npm")
        monkeypatch.setenv("HF_ENDPOINT", serving.url)
        yield serving
