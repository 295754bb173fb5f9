"""``python -m braing3n_core.worker``: the same as ``braing3n worker``."""

import sys

from ..cli import main

sys.exit(main(["worker", *sys.argv[1:]]))
