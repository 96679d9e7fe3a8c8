"""``python -m segue_cli``."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder: nothing in it may be imported

from segue_cli.entry_point import main

sys.exit(main())
