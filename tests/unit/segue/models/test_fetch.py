"""A model is got from each kind of source, checked, converted and kept, or the error says why."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from segue.adapters.connect import open_models
from segue.backoff import Backoff
from segue.errors import ConfigurationError, DiskFull, Unavailable
from segue.model.model_entry import CONTENTS, ModelEntry, compute_folder_sha256
from segue.models import fetch as fetching
from segue.models import library as libraries
from segue.models.fetch import Origin, fetch_model
from segue.models.http import HttpClient
from segue.models.library import LOCK, UNFINISHED
from segue_support.web_server import (
    Page,
    add_node_package,
    add_python_package,
    make_tarball,
    make_wheel,
    serve_pages,
)

MODEL = b"a model" * 1000
LICENCE = b"do as you like"
REVISION = "0123456789" * 4


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry_of(source: str, **more) -> ModelEntry:
    return ModelEntry(
        **{"name": "tiny", "version": 1, "source": source, "sha256": sha256(MODEL)} | more
    )


@pytest.fixture
def library(tmp_path):
    return open_models(str(tmp_path / "models"))


def get(entry, library, **options):
    client = HttpClient(backoff=Backoff(first_s=0.001, longest_s=0.001))
    return fetch_model(entry, library, client=client, **options)


def left_over(library) -> list[str]:
    return [str(p) for p in Path(library.folder).rglob(f"{UNFINISHED}*")]


FILES = {
    "tiny/data/model.onnx": MODEL,
    "tiny/code.py": b"boom",
    "tiny-1.0.dist-info/LICENSE": LICENCE,
}


def test_the_notice_beside_a_licence_is_kept_with_it(server, library):
    files = {
        **FILES,
        "NOTICE": b"of something else",
        "tiny-1.0.dist-info/NOTICE": b"made by Tiny",
    }
    server.pages["/all.whl"] = Page(body=make_wheel(files))
    licence = {"licence_file": "tiny-1.0.dist-info/LICENSE"}
    entry = entry_of(f"{server.url}/all.whl#tiny/data/model.onnx", **licence)
    model = get(entry, library)
    text = Path(library.find_licence(entry)).read_bytes()
    assert text == LICENCE + b"\n\nmade by Tiny"
    found = sorted(p.name for p in Path(model.path).parent.iterdir())
    assert found == ["LICENCE", "model.onnx", CONTENTS]


@pytest.mark.parametrize("as_html", [False, True])
def test_a_file_of_a_wheel_is_got_with_its_licence(server, library, as_html):
    add_python_package(
        server,
        "tiny-models",
        "tiny_models-1.0-py3-none-any.whl",
        make_wheel(FILES),
        as_html=as_html,
    )
    entry = entry_of(
        "pypi:Tiny_Models==1.0/tiny/data/model.onnx", licence_file="tiny-1.0.dist-info/LICENSE"
    )
    model = get(entry, library)
    assert (Path(model.path).name, Path(model.path).read_bytes()) == ("model.onnx", MODEL)
    assert model.origin is Origin.SOURCE
    assert Path(library.find_licence(entry)).read_bytes() == LICENCE
    found = sorted(p.name for p in Path(model.path).parent.iterdir())
    assert found == ["LICENCE", "model.onnx", CONTENTS]  # and nothing else of the package
    assert get(entry, library).origin is Origin.HERE
    assert server.count("/simple/tiny-models/") == 1


def test_a_package_without_a_wheel_is_read_from_its_source_archive(server, library):
    archive = make_tarball({f"tiny_models-1.0/{name}": data for name, data in FILES.items()})
    add_python_package(server, "tiny-models", "tiny_models-1.0.tar.gz", archive)
    model = get(entry_of("pypi:tiny-models==1.0/tiny/data/model.onnx"), library)
    assert Path(model.path).read_bytes() == MODEL


def test_a_folder_of_a_package_is_got_as_a_folder(server, library):
    files = {"tiny/m/.index": b"1", "tiny/m/sub/data": b"2", "tiny/n": b"3"}
    add_python_package(server, "tiny", "tiny-1.0-py3-none-any.whl", make_wheel(files))
    digest = compute_folder_sha256([(".index", sha256(b"1")), ("sub/data", sha256(b"2"))])
    model = get(entry_of("pypi:tiny==1.0/tiny/m/", sha256=digest), library)
    found = {
        p.relative_to(model.path).as_posix() for p in Path(model.path).rglob("*") if p.is_file()
    }
    assert found == {".index", "sub/data"}


def test_the_checksum_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path):
    for name in ("b", "a/c", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    listed = subprocess.run(
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert fetching.compute_source_sha256(str(tmp_path)) == listed.split()[0]


@pytest.mark.parametrize("name", ["tiny", "@acme/tiny"])
def test_a_file_of_an_npm_package_is_got_from_the_registry_that_is_set(server, library, name):
    archive = make_tarball({"package/models/model.onnx": MODEL, "package/LICENSE": LICENCE})
    add_node_package(server, name, "3.3.6", archive)
    entry = entry_of(f"npm:{name}@3.3.6/models/model.onnx", licence_file="LICENSE")
    assert Path(get(entry, library).path).read_bytes() == MODEL
    assert Path(library.find_licence(entry)).read_bytes() == LICENCE


def test_credentials_of_the_registry_are_sent_for_the_archive_too(server, library, monkeypatch):
    archive = Page(body=make_tarball({"package/m": MODEL}), authorization="Basic bWU6czNjcmV0")
    server.pages["/npm/tiny/-/tiny-1.0.0.tgz"] = archive
    described = {
        "versions": {"1.0.0": {"dist": {"tarball": f"{server.url}/npm/tiny/-/tiny-1.0.0.tgz"}}}
    }
    server.pages["/npm/tiny"] = Page(body=json.dumps(described).encode())
    registry = f"{server.url}/npm".replace("//", "//me:s3cret@", 1)
    monkeypatch.setenv("npm_config_registry", registry)
    assert Path(get(entry_of("npm:tiny@1.0.0/m"), library).path).read_bytes() == MODEL


def test_a_file_of_hugging_face_is_got_at_its_revision_through_a_redirect(server, library):
    server.pages[f"/acme/tiny/resolve/{REVISION}/onnx/model.onnx"] = Page(
        redirect=f"{server.url}/blob"
    )
    server.pages["/blob"] = Page(body=MODEL)
    model = get(entry_of(f"hf:acme/tiny@{REVISION}/onnx/model.onnx"), library)
    assert Path(model.path).read_bytes() == MODEL


def test_a_folder_of_hugging_face_is_got_as_a_folder(server, library):
    files = {"ct2/model.bin": MODEL, "ct2/sub/config.json": b"{}"}
    listed = [{"type": "directory", "path": "ct2/sub"}]
    listed += [{"type": "file", "path": path} for path in files]
    server.pages[f"/api/models/acme/tiny/tree/{REVISION}/ct2"] = Page(
        body=json.dumps(listed).encode()
    )
    for path, data in {**files, "LICENSE": LICENCE}.items():
        server.pages[f"/acme/tiny/resolve/{REVISION}/{path}"] = Page(body=data)
    digest = compute_folder_sha256(
        [("model.bin", sha256(MODEL)), ("sub/config.json", sha256(b"{}"))]
    )
    entry = entry_of(f"hf:acme/tiny@{REVISION}/ct2/", sha256=digest, licence_file="LICENSE")
    model = get(entry, library)
    assert (Path(model.path) / "sub/config.json").read_bytes() == b"{}"
    assert Path(library.find_licence(entry)).read_bytes() == LICENCE


def test_a_file_at_an_address_and_one_in_an_archive_there_are_got(server, library):
    server.pages["/m/model.onnx"] = Page(body=MODEL)
    server.pages["/all.tgz"] = Page(body=make_tarball({"x/model.onnx": MODEL}))
    assert Path(get(entry_of(f"{server.url}/m/model.onnx"), library).path).read_bytes() == MODEL
    second = entry_of(f"{server.url}/all.tgz#x/model.onnx", name="second")
    assert Path(get(second, library).path).read_bytes() == MODEL


def test_a_file_or_folder_beside_the_graph_is_copied(tmp_path, library):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/model.onnx").write_bytes(MODEL)
    model = get(entry_of("m/model.onnx", folder=str(tmp_path)), library)
    assert Path(model.path).read_bytes() == MODEL
    digest = compute_folder_sha256([("model.onnx", sha256(MODEL))])
    folder = get(entry_of("m", name="second", folder=str(tmp_path), sha256=digest), library)
    assert (Path(folder.path) / "model.onnx").read_bytes() == MODEL
    with pytest.raises(ConfigurationError, match=r"gone.onnx' of tiny@1 does not exist"):
        get(entry_of("gone.onnx", folder=str(tmp_path), sha256="0" * 64), library)


@pytest.mark.parametrize("name", ["LICENCE", "licence", "segue-model.json", "..", "n" * 300])
def test_a_source_may_have_any_name(server, library, name):
    server.pages["/a"] = Page(body=make_wheel({name: MODEL, "text": LICENCE}))
    server.pages[f"/{name}"] = Page(body=MODEL)
    if name != "..":
        entry = entry_of(f"{server.url}/a#{name}", licence_file="text")
        path = get(entry, library).path
        assert Path(path).read_bytes() == MODEL
        assert library.find(entry) == path
        assert Path(library.find_licence(entry)).read_bytes() == LICENCE
    entry = entry_of(f"{server.url}/{name}", name="second")
    assert Path(get(entry, library).path).read_bytes() == MODEL
    assert library.find(entry)


def test_what_is_beside_the_graph_and_no_file_is_refused(tmp_path, library):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/model.onnx").write_bytes(MODEL)
    entry = entry_of("m/model.onnx", folder=str(tmp_path), licence_file="m")
    with pytest.raises(ConfigurationError, match="m' of tiny@1 is not a file"):
        get(entry, library)
    os.mkfifo(tmp_path / "m/pipe")
    for source in ("m", "m/pipe"):
        with pytest.raises(ConfigurationError, match="pipe' of tiny@1 is not a file"):
            get(entry_of(source, folder=str(tmp_path)), library)


def test_a_folder_without_files_is_refused(tmp_path, library):
    (tmp_path / "empty").mkdir()
    entry = entry_of("empty", folder=str(tmp_path), sha256=sha256(b""))
    with pytest.raises(ConfigurationError, match="empty has no files; check the path"):
        get(entry, library)


def test_progress_goes_up_to_all_bytes(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL * 200)
    seen = []
    entry = entry_of(f"{server.url}/model.onnx", sha256=sha256(MODEL * 200))
    get(entry, library, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(MODEL) * 200,) * 2
    assert len(seen) > 1
    assert seen == sorted(seen)


def test_another_content_is_refused_with_its_checksum_and_nothing_is_left(server, library):
    server.pages["/model.onnx"] = Page(body=b"other")
    entry = entry_of(f"{server.url}/model.onnx")
    with pytest.raises(ConfigurationError) as caught:
        get(entry, library)
    assert sha256(b"other") in str(caught.value)
    assert sha256(MODEL) in str(caught.value)
    assert library.find(entry) is None
    assert left_over(library) == []


def test_a_download_that_stops_goes_on_where_it_stopped(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL, cut_at=[100, 2000])
    get(entry_of(f"{server.url}/model.onnx"), library)
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert ranges == [None, "bytes=100-", "bytes=2000-"]


def test_a_download_that_stops_starts_again_if_the_server_has_no_ranges(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL, cut_at=[100], has_ranges=False)
    assert Path(get(entry_of(f"{server.url}/model.onnx"), library).path).read_bytes() == MODEL


def test_a_server_that_fails_for_a_while_is_tried_again(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL, statuses=[503, 500, 429])
    get(entry_of(f"{server.url}/model.onnx"), library)
    assert server.count("/model.onnx") == 4


def test_a_server_that_keeps_failing_is_unavailable(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL, statuses=[503] * 9)
    with pytest.raises(Unavailable, match="HTTP 503"):
        get(entry_of(f"{server.url}/model.onnx"), library)
    assert left_over(library) == []


def test_a_download_that_always_stops_is_unavailable(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL, cut_at=[10] * 9, has_ranges=False)
    with pytest.raises(Unavailable, match="stops halfway"):
        get(entry_of(f"{server.url}/model.onnx"), library)


def test_a_server_that_cannot_be_reached_is_unavailable(library):
    with pytest.raises(Unavailable, match="check the network"):
        get(entry_of("http://127.0.0.1:9/model.onnx"), library)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{url}/gone.onnx", "is gone, or never was there"),
        ("{url}/secret.onnx", "may not be read"),
        ("{url}/all.whl#other.onnx", "has no 'other.onnx'"),
        ("{url}/model.onnx#x", "is not an archive"),
        ("pypi:tiny==2.0/x", "has no version 2.0 in the index"),
        ("pypi:other==2.0/x", "is gone, or never was there"),
        ("npm:tiny@2.0/x", "has no version 2.0 in the registry"),
    ],
)
def test_a_source_that_is_gone_or_wrong_is_named_with_the_remedy(server, library, source, message):
    add_python_package(server, "tiny", "tiny-1.0-py3-none-any.whl", make_wheel(FILES))
    add_node_package(server, "tiny", "1.0", make_tarball({}))
    server.pages["/all.whl"] = Page(body=make_wheel(FILES))
    server.pages["/model.onnx"] = Page(body=MODEL)
    server.pages["/secret.onnx"] = Page(body=MODEL, authorization="Bearer 1")
    with pytest.raises(ConfigurationError, match=message):
        get(entry_of(source.format(url=server.url)), library)
    assert left_over(library) == []


@pytest.mark.parametrize("target", ["file:///etc/hosts", "ftp://127.0.0.1:9/m", "{url}/m"])
def test_a_redirect_that_leaves_http_or_goes_round_is_refused_at_once(server, library, target):
    server.pages["/m"] = Page(redirect=target.format(url=server.url))
    with pytest.raises(ConfigurationError, match="not of HTTP, or in a circle"):
        get(entry_of(f"{server.url}/m"), library)
    assert server.count("/m") < 10  # as many as urllib allows, once


def test_a_model_that_is_larger_than_it_should_be_is_not_written_in_full(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL)
    server.pages["/all.whl"] = Page(body=make_wheel({"m": bytes(10**6)}))
    for source in ("/model.onnx", "/all.whl#m"):
        with pytest.raises(ConfigurationError, match="size_bytes"):
            get(entry_of(f"{server.url}{source}", size_bytes=100), library)


@pytest.mark.parametrize("name", ["tiny/m/../../../evil", "tiny/m//evil", "../evil", "/evil"])
def test_nothing_is_written_outside_of_the_folder(server, library, tmp_path, name):
    for make in (make_wheel, make_tarball):
        server.pages["/a"] = Page(body=make({name: b"evil", "tiny/m/model.onnx": MODEL}))
        digest = compute_folder_sha256([("model.onnx", sha256(MODEL))])
        entry = entry_of(f"{server.url}/a#tiny/m/", sha256=digest, name=f"m{len(server.requests)}")
        get(entry, library)
    assert list(tmp_path.rglob("*evil*")) == []


def test_credentials_of_the_index_are_sent_to_it_alone_and_never_shown(
    server, library, monkeypatch
):
    add_python_package(server, "tiny", "tiny-1.0-py3-none-any.whl", make_wheel(FILES))
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple".replace("//", "//me:s3cret@", 1))
    get(entry_of("pypi:tiny==1.0/tiny/data/model.onnx"), library)
    assert [h.get("Authorization") for _, h in server.requests] == ["Basic bWU6czNjcmV0"] * 2
    with pytest.raises(ConfigurationError) as caught:
        get(entry_of("pypi:none==1.0/x", name="none"), library)
    assert "s3cret" not in str(caught.value)


def test_credentials_of_an_address_are_neither_shown_nor_kept(server, library):
    server.pages["/all.whl"] = Page(body=make_wheel(FILES), authorization="Basic bWU6czNjcmV0")
    address = server.url.replace("//", "//me:s3cret@", 1) + "/all.whl?token=s3cret"
    entry = entry_of(f"{address}#tiny/data/model.onnx")
    assert entry.public_source == f"{server.url}/all.whl#tiny/data/model.onnx"
    model = get(entry, library)
    for path in Path(library.folder).rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()
    assert server.url in Path(model.path).with_name(CONTENTS).read_text()
    for wrong in (replace(entry, sha256="0" * 64), entry_of(f"{address}#gone", name="gone")):
        with pytest.raises(ConfigurationError) as caught:
            get(wrong, library)
        assert "s3cret" not in str(caught.value)


def test_an_index_without_a_scheme_does_not_show_its_password(server, library, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "me:s3cret@acme.org/simple")
    with pytest.raises(ConfigurationError, match=r"'acme\.org/simple/tiny/' is not an address"):
        get(entry_of("pypi:tiny==1.0/x"), library)


@pytest.mark.parametrize("file", ["tiny-1.0.1-py3-none-any.whl", "tiny-1.0.1.tar.gz"])
def test_a_longer_version_is_another_one(server, library, file):
    add_python_package(server, "tiny", file, make_wheel(FILES))
    with pytest.raises(ConfigurationError, match=r"tiny has no version 1\.0 in the index"):
        get(entry_of("pypi:tiny==1.0/tiny/data/model.onnx"), library)


def test_what_is_converted_is_kept_as_onnx(server, library, tmp_path, monkeypatch):
    (tmp_path / "own_conversion.py").write_text(
        "def convert(source, target):\n    target.write_bytes(source.read_bytes()[:7])\n"
        "def fail(source, target):\n    raise ValueError('no layer 3')\n"
        "def forget(source, target):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    server.pages["/model.bin"] = Page(body=MODEL)
    entry = entry_of(f"{server.url}/model.bin", convert="own_conversion:convert")
    model = get(entry, library)
    assert (Path(model.path).name, Path(model.path).read_bytes()) == ("tiny.onnx", b"a model")
    assert library.find(replace(entry, convert_version=2)) is None
    for name, message in (
        ("fail", "no layer 3"),
        ("forget", "has not written"),
        ("gone", "cannot be"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            get(replace(entry, convert=f"own_conversion:{name}"), library)


def test_a_conversion_may_print_and_exit(server, library, tmp_path, monkeypatch, capsys):
    (tmp_path / "loud_conversion.py").write_text(
        "print('imported')\n"
        "def convert(source, target):\n    print('converting')\n    raise SystemExit(3)\n"
    )
    (tmp_path / "bad_conversion.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    server.pages["/model.bin"] = Page(body=MODEL)
    for module, message in (
        ("loud", r"loud_conversion:convert failed \(SystemExit: 3\)"),
        ("bad", "cannot be imported .ZeroDivisionError"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            get(
                entry_of(f"{server.url}/model.bin", convert=f"{module}_conversion:convert"), library
            )
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "imported\nconverting\n")


def test_a_model_that_has_lost_bytes_is_missing_and_got_again(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL)
    entry = entry_of(f"{server.url}/model.onnx")
    path = Path(get(entry, library).path)
    path.write_bytes(MODEL[:-1])
    assert library.find(entry) is None
    with pytest.raises(ConfigurationError, match="'segue models get tiny@1'"):
        library.require(entry)
    assert get(entry, library).origin is Origin.SOURCE
    assert path.read_bytes() == MODEL
    assert left_over(library) == []


def test_several_that_get_the_same_model_download_it_once(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL)
    entry = entry_of(f"{server.url}/model.onnx")
    paths: list[str] = []
    threads = [
        threading.Thread(target=lambda: paths.append(get(entry, library).path)) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert set(paths) == {library.find(entry)}
    assert server.count("/model.onnx") == 1


KILLED = """
import os, sys
from segue.adapters.connect import open_models
from segue.model.model_entry import CONTENTS, ModelEntry
from segue.models.fetch import fetch_model
entry = ModelEntry(name="tiny", version=1, source=sys.argv[1], sha256="0" * 64)
fetch_model(entry, open_models(sys.argv[2]), on_progress=lambda *_: os.kill(os.getpid(), 9))
"""


def test_what_a_killed_process_leaves_is_removed_by_the_next(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL)
    source = f"{server.url}/model.onnx"
    done = subprocess.run([sys.executable, "-c", KILLED, source, library.folder], check=False)
    assert done.returncode == -9
    assert left_over(library)
    entry = entry_of(source)
    assert library.find(entry) is None
    get(entry, library)
    assert left_over(library) == []


def test_a_full_disk_is_named_and_leaves_nothing(server, library, monkeypatch):
    def fill(_path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.pages["/model.onnx"] = Page(body=MODEL)
    monkeypatch.setattr(libraries, "_sync", fill)
    entry = entry_of(f"{server.url}/model.onnx")
    with pytest.raises(DiskFull, match="SEGUE_MODELS"):
        get(entry, library)
    assert library.find(entry) is None
    assert left_over(library) == []


def test_a_folder_that_is_read_only_is_named_with_the_remedy(server):
    server.pages["/model.onnx"] = Page(body=MODEL)
    nobody_writes = "/sys/models" if sys.platform == "linux" else "/models"
    with pytest.raises(ConfigurationError, match="cannot be written"):
        get(entry_of(f"{server.url}/model.onnx"), open_models(nobody_writes))


def test_a_model_that_is_ready_needs_no_folder_that_can_be_written(server, library):
    server.pages["/model.onnx"] = Page(body=MODEL)
    entry = entry_of(f"{server.url}/model.onnx")
    path = get(entry, library).path
    lock = Path(library.folder) / entry.reference / LOCK
    lock.unlink()
    lock.mkdir()  # root may write anywhere, but not to a folder as to a file
    assert get(entry, library).path == path


def test_a_folder_that_is_a_file_is_named_with_the_remedy(server, tmp_path):
    server.pages["/model.onnx"] = Page(body=MODEL)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="name another with SEGUE_MODELS"):
        get(entry_of(f"{server.url}/model.onnx"), open_models(str(tmp_path / "file")))


def test_a_token_is_not_passed_on_to_where_a_redirect_leads(server, library, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_1")
    with serve_pages({"/blob": MODEL}) as storage:
        page = Page(redirect=f"{storage.url}/blob", authorization="Bearer hf_1")
        server.pages[f"/acme/tiny/resolve/{REVISION}/model.onnx"] = page
        entry = entry_of(f"hf:acme/tiny@{REVISION}/model.onnx")
        assert Path(fetch_model(entry, library).path).read_bytes() == MODEL
        assert [headers.get("Authorization") for _, headers in storage.requests] == [None]


def test_a_licence_that_is_not_in_the_package_is_named(server, library):
    server.pages["/all.whl"] = Page(body=make_wheel(FILES))
    entry = entry_of(f"{server.url}/all.whl#tiny/data/model.onnx", licence_file="LICENZE")
    with pytest.raises(ConfigurationError, match="has no 'LICENZE'"):
        get(entry, library)
