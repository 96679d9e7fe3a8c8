"""Tensors are read as PyTorch saves them, and nothing in the file is run."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from segue.models import torch_archive
from segue.models.torch_archive import read_tensors
from segue_support.torch_archives import FLOATS, REBUILD, write_archive

TENSORS = {
    "layer.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "layer.bias": np.array([0.5, -1.5], np.float32),
    "scale": np.array(7.0, np.float32),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


def test_tensors_are_read_as_they_were_saved(path):
    write_archive(path, TENSORS)
    found = read_tensors(path)
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ((b"collections\nOrderedDict", b"posix\nsystem"), "names posix.system"),
        ((REBUILD, b"cbuiltins\nexec\n"), "names builtins.exec"),
        ((REBUILD, b"ctorch._utils\n_rebuild_qtensor\n"), "names torch._utils._rebuild_qtensor"),
        ((FLOATS, b"ctorch\nHalfStorage\n"), "names torch.HalfStorage"),
        ((FLOATS, b"X\x01\0\0\0x"), "a storage is of an unknown kind"),
        ((b"X\x01\0\0\x000", b"X\x04\0\0\0../0"), "a storage is of an unknown kind"),
        ((b"tQ", b"t0N"), "a tensor is of an unknown kind"),
        ((b"J\x01\0\0\0(J", b"J\x02\0\0\0(J"), "ends behind its storage"),
        ((b"J\x01\0\0\0(J", b"J\xff\xff\xff\xff(J"), "the offset -1"),
        ((b"J\x0c\0\0\0J\x04\0\0\0", b"J\x04\0\0\0J\x0c\0\0\0"), "has the strides"),
        ((b"J\x01\0\0\0(J", b"J\x1a\0\0\0(J"), "the offset 26"),
        ((b"(t(t", b"(" + 9 * b"K\x01" + b"t(t"), "has 9 axes"),
        ((b"tR", b"tR}X\x05\0\0\0shapeK\x01sb"), "its pickle cannot be read"),
        ((b"u.", b"u"), "its pickle cannot be read"),
        ((b"u.", b"u0N."), "its pickle is not a table of tensors"),
    ],
)
def test_a_pickle_with_anything_else_is_refused(path, replace, message):
    write_archive(path, TENSORS, replace=replace)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)


def test_what_a_pickle_would_run_is_not_run(path, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("saved/data.pkl", pickle.dumps({"trap": Trap()}, protocol=2))
    with pytest.raises(ValueError, match=r"its pickle names (io|_io)\.open"):
        read_tensors(path)
    assert not (tmp_path / "sprung").exists()


def test_an_attribute_of_the_table_does_not_matter(path):
    write_archive(path, TENSORS, replace=(b"u.", b"u}X\x05\0\0\0itemsK\x01sb."))
    assert list(read_tensors(path)) == list(TENSORS)


def test_a_storage_that_many_tensors_share_is_in_memory_once(path):
    size = 2**18
    write_archive(path, {"0": np.zeros(size, np.float32)})
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    pickled = files["saved/data.pkl"]
    start, end = pickled.index(b"X\x01\0\0\x000" + REBUILD), pickled.index(b"u.")
    tensor = pickled[start + 6 : end]
    more = b"".join(b"X\x03\0\0\0%03d" % n + tensor for n in range(500))
    files["saved/data.pkl"] = pickled[:end] + more + pickled[end:]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    tracemalloc.start()
    found = read_tensors(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 501
    assert peak_bytes < 4 * 4 * size


def test_a_member_that_is_larger_than_it_claims_is_not_decompressed_beyond(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved/data.pkl", bytes(2**26))
    claimed = path.read_bytes().replace(struct.pack("<I", 2**26), struct.pack("<I", 100))
    path.write_bytes(claimed)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"weights\.pt is damaged"):
        read_tensors(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**23


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_refused_however_it_is_compressed(path, method):
    write_archive(path, TENSORS)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[0]
    whole, start, refused = path.read_bytes(), len(first.FileHeader()), 0
    for at in range(start, start + first.compress_size):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert list(read_tensors(path)) == list(TENSORS)  # a byte that nothing depends on
        except ValueError:
            refused += 1
    assert refused > 0.9 * first.compress_size


def test_a_storage_of_another_size_or_none_is_refused(path, tmp_path):
    write_archive(path, TENSORS)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for changed in (files["saved/data/0"][:-4], None):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**files, "saved/data/0": changed}.items():
                if data is not None:
                    archive.writestr(name, data)
        with pytest.raises(ValueError, match=r"data/0|storage 0"):
            read_tensors(path)


def test_a_file_that_claims_too_much_is_refused_before_it_is_read(path, monkeypatch):
    write_archive(path, TENSORS)
    monkeypatch.setattr(torch_archive, "MAX_BYTES", 119)
    with pytest.raises(ValueError, match="its storages have 120 bytes, and may have 119"):
        read_tensors(path)
    monkeypatch.setattr(torch_archive, "MAX_PICKLE_BYTES", 50)
    with pytest.raises(ValueError, match=r"data\.pkl has .* and may have 50"):
        read_tensors(path)


def test_what_is_no_archive_or_not_of_pytorch_is_refused(path):
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is damaged, or not saved by PyTorch"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("else", b"")
    with pytest.raises(ValueError, match="does not have the tensors of a model"):
        read_tensors(path)


def test_a_damaged_archive_is_refused(path):
    write_archive(path, TENSORS)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<f", 9.0))
    data[at] ^= 1  # its checksum is wrong now
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        read_tensors(path)
