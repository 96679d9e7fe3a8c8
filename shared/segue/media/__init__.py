"""Media files and audio: decode, read in blocks, run ffmpeg."""
