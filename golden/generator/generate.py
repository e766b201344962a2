"""Records the golden traces from tf.keras: `python generate.py --help`."""

import sys

from goldstep_golden.cli import main

if __name__ == "__main__":
    sys.exit(main())
