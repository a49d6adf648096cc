"""python -m normbench."""

import sys

from normbench.cli.main import main

sys.exit(main())
