"""`python -m tvmconv` is the `tvmconv` command."""

import sys

from tvmconv.cli import main

sys.exit(main())
