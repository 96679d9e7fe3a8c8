"""``python -m segue_cli``."""

import sys

from segue_cli.main import main

sys.exit(main())
