"""``python -m segue_cli``."""

import sys

from segue_cli.entry_point import main

sys.exit(main())
