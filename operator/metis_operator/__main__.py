"""``python -m metis_operator``: the command line of the operator's image, and ``kubectl metis``."""

from __future__ import annotations

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
