"""The containers and codecs that are read; docs/formats.md lists them, and says why others are not.

A catalogue's media are strangers' bytes, so ffmpeg runs only the code that sound needs. Above all,
video decoders are left out, which it would run to describe a film's streams, and the demuxers of
playlists, scripts and manifests: they name other files, and a file must not choose what is read.
"""

from __future__ import annotations

# The names of ffmpeg's demuxers.
CONTAINERS = (
    *("wav", "w64", "aiff", "caf", "au", "voc", "iff", "flac", "mp3", "ogg", "mov", "aac"),
    *("matroska", "asf", "avi", "flv", "mpeg", "mpegts", "ape", "wv", "tta", "mpc", "mpc8"),
    *("dsf", "ac3", "eac3", "dts", "dtshd", "amr", "gsm", "nistsphere"),
)

# The names of ffmpeg's decoders: its own, and the libraries that a build may use in their place.
# ADPCM of telephones (G.726, G.721) is not among them: libsndfile decodes it to other samples.
DECODERS = (
    *("pcm_u8", "pcm_s8", "pcm_s8_planar", "pcm_alaw", "pcm_mulaw", "pcm_dvd", "pcm_bluray"),
    *(f"pcm_{kind}{bits}{end}" for kind in "us" for bits in (16, 24, 32) for end in ("le", "be")),
    *("pcm_s16le_planar", "pcm_s16be_planar", "pcm_s24le_planar", "pcm_s32le_planar"),
    *("pcm_s64le", "pcm_s64be", "pcm_f16le", "pcm_f24le"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "s302m"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_ima_dk3", "adpcm_ima_dk4"),
    *("adpcm_swf", "adpcm_yamaha", "adpcm_ct", "adpcm_sbpro_2", "adpcm_sbpro_3", "adpcm_sbpro_4"),
    *("8svx_exp", "8svx_fib", "mace3", "mace6", "g722"),
    *("dsd_lsbf", "dsd_lsbf_planar", "dsd_msbf", "dsd_msbf_planar", "dst"),
    *("flac", "alac", "als", "ape", "tta", "wavpack", "wmalossless", "mlp", "truehd", "shorten"),
    *("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "mp3adu", "mp3adufloat"),
    *("mp3on4", "mp3on4float", "aac", "aac_fixed", "aac_latm", "libfdk_aac"),
    *("vorbis", "libvorbis", "opus", "libopus", "speex", "libspeex", "mpc7", "mpc8"),
    *("ac3", "ac3_fixed", "eac3", "dca", "wmav1", "wmav2", "wmapro", "wmavoice"),
    *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "evrc", "qcelp"),
    *("gsm", "gsm_ms", "libgsm", "libgsm_ms", "g723_1", "g729", "ilbc", "libilbc", "truespeech"),
    *("nellymoser", "qdm2", "qdmc", "atrac3", "atrac3plus", "imc", "iac"),
)

# The demuxers of films; none of them opens a second file.
FILM_CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "asf", "flv", "ogg")

# The decoders of their pictures. They run where a job asks for frames, and nowhere else.
VIDEO_DECODERS = (
    *("h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "libdav1d", "libaom-av1", "av1"),
    *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1"),
    *("mjpeg", "prores", "dnxhd", "dvvideo", "ffv1", "flv", "h263", "theora"),
)
