"""`python -m tests.support.compose_runner`."""

import sys

from tests.support.compose_runner.runner import main

sys.exit(main())
