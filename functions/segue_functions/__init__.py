"""Cloud Functions: they import the core only, never Beam, never librosa."""
