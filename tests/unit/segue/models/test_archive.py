"""Files are taken out of archives, and what is wrong with an archive is said with its name."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from segue.errors import ConfigurationError
from segue.models.archive import extract, select_path
from segue_support.web_server import make_tarball, make_wheel

MODEL = b"a model" * 1000


def make_zip(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("m/a", MODEL)
    return buffer.getvalue()


ARCHIVES = {
    "deflate": make_zip(zipfile.ZIP_DEFLATED),
    "bzip2": make_zip(zipfile.ZIP_BZIP2),
    "lzma": make_zip(zipfile.ZIP_LZMA),
    "tar": make_tarball({"m/a": MODEL}),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_damaged_archive_is_named_whatever_is_damaged(tmp_path, kind):
    whole, path = ARCHIVES[kind], tmp_path / "damaged"
    wanted = select_path("m/", str(tmp_path / "out"))
    refused = 0
    for start in range(len(whole) - 3):
        path.write_bytes(whole[:start] + b"\xff\xff\xff" + whole[start + 3 :])
        try:
            extract(str(path), "https://acme.org/it", wanted, limit_bytes=2**20)
        except ConfigurationError as error:
            refused += "https://acme.org/it is not an archive" in str(error)
    assert refused > 20


@pytest.mark.parametrize("names", [["m/a", "m/a/b"], ["m/" + "n" * 300]])
def test_names_that_no_folder_can_have_are_the_archive_s_fault(tmp_path, names):
    (tmp_path / "a").write_bytes(make_wheel(dict.fromkeys(names, MODEL)))
    wanted = select_path("m/", str(tmp_path / "out"))
    with pytest.raises(ConfigurationError, match="x is not an archive that can be read"):
        extract(str(tmp_path / "a"), "x", wanted, limit_bytes=2**20)


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_archive(tmp_path):
    (tmp_path / "a").write_bytes(make_wheel({"m": MODEL}))
    with pytest.raises(OSError, match="No space left"):
        extract(str(tmp_path / "a"), "x", select_path("m", "/dev/full"), limit_bytes=2**20)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_not_read(tmp_path, kind):
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 2**40
    with gzip.open(tmp_path / "a", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(2**20))
    with pytest.raises(ConfigurationError, match="a header of 1,099,511,627,776 bytes"):
        extract(str(tmp_path / "a"), "x", select_path("m", str(tmp_path)), limit_bytes=2**20)


def test_names_and_files_may_be_long(tmp_path):
    name = "m/" + "n" * 90 + "/" + "o" * 150
    buffer = io.BytesIO()
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as archive:
            member = tarfile.TarInfo(name)
            member.size = 2**21
            archive.addfile(member, io.BytesIO(bytes(2**21)))
        (tmp_path / "a").write_bytes(buffer.getvalue())
        wanted = select_path("m/", str(tmp_path / "out"))
        assert extract(str(tmp_path / "a"), "x", wanted, limit_bytes=2**22) == [name]
        buffer = io.BytesIO()
