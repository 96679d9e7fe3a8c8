"""Media files and sound: decode, read in blocks, run ffmpeg."""
