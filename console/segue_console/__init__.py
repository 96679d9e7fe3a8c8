"""The console: a web page on which people see and hear a catalogue and its results."""
