"""Segue: from a bucket of media to versioned features.

The public API. Each name is imported when it is first used, so that ``import segue`` costs next to
nothing; ``__init__.pyi`` says which module defines it.

>>> import segue
>>> sorted(segue.load_graph().jobs)
['beats', 'downsample', 'energy', 'loudness', 'probe', 'spectrogram']
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
