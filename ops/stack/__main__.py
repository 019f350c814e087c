"""`python -m ops.stack`."""

import sys

from ops.stack.runner import main

sys.exit(main())
