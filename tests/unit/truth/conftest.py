"""Makes `truth` importable, and nothing else of the root: it is not installed."""

from __future__ import annotations

import importlib.util
import sys

from segue_support.paths import ROOT

if "truth" not in sys.modules:
    spec = importlib.util.spec_from_file_location("truth", ROOT / "truth" / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["truth"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["truth"])
