"""The built-in feature jobs: pure functions on audio, one module per topic."""

from segue.extras import require

require("segue.features", "audio")
