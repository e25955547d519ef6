"""`python -m recmodels ...` is `recmodels ...`."""

import sys

from recmodels import cli

if __name__ == "__main__":
    sys.exit(cli.main())
