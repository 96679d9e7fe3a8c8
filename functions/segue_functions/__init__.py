"""Cloud Functions: they import the library only, never Beam, never librosa."""
