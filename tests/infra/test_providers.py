"""Each environment can be planned by the providers that were asked for.

That is the stand-in, unless SEGUE_REAL_PROVIDERS=1 asks for the real ones, which know what no
schema says: values that are refused, arguments that exclude each other, patterns of names. Their
token belongs to nobody, so what a plan would read in the cloud is given.
"""

from __future__ import annotations

import pytest
from harness import environment
from harness.terraform import REAL_PROVIDERS, TerraformError, find_real_providers

pytestmark = pytest.mark.xdist_group("modules")

PLAN = """
override_data {
  target = data.google_storage_project_service_account.this
  values = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
}

run "a_plan" {
  command = plan
}
"""


@pytest.mark.parametrize("name", environment.ENVIRONMENTS)
def test_an_environment_can_be_planned(name, providers, tmp_path):
    tree = environment.copy_tree(tmp_path / "tree", providers)
    for test in (tree.infra / "tests").glob("*.tftest.hcl"):
        test.unlink()
    (tree.infra / "tests" / "plan.tftest.hcl").write_text(PLAN)
    tree.terraform.init()
    result = tree.terraform.test(f"-var-file=envs/{name}.tfvars")
    assert result.diagnostics == []
    (summary,) = [line["test_summary"] for line in result.lines if "test_summary" in line]
    assert (summary["status"], summary["passed"]) == ("pass", 1)


def test_real_providers_that_are_asked_for_and_cannot_be_downloaded_fail(monkeypatch, tmp_path):
    monkeypatch.setenv(REAL_PROVIDERS, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(TerraformError, match="none of them ran"):
        find_real_providers(tmp_path)


def test_a_misspelled_request_for_real_providers_fails(monkeypatch, tmp_path):
    monkeypatch.setenv(REAL_PROVIDERS, "yes")
    with pytest.raises(TerraformError, match="write 1 or 0"):
        find_real_providers(tmp_path)


def test_without_a_request_there_are_no_real_providers(monkeypatch, tmp_path):
    monkeypatch.delenv(REAL_PROVIDERS, raising=False)
    assert find_real_providers(tmp_path) is None
