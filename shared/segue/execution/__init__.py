"""Run work: the files of a backfill, the messages of a stream, or one file by hand."""
