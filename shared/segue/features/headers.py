"""What the headers of a media file say: container, streams, duration, tags.

It costs a few milliseconds a file, since nothing but headers is read, and it works for any file:
use it to know what is in a catalogue, and to choose files for jobs that cost more.
"""

from __future__ import annotations

from segue.media.audio import Media
from segue.media.probe import MediaInfo

PRELOAD = ("av", "PIL.Image")


def probe(media: Media) -> MediaInfo:
    """Describe a file, whatever it is; what is not media, or is damaged, has no streams.

    Parameters
    ----------
    media : Media
        The file; it is not decoded.

    Returns
    -------
    MediaInfo
        As JSON, an object with the names of its attributes: `segue.media.probe.MediaInfo`.
    """
    return media.probe()
