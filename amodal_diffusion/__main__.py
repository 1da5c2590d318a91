"""`python -m amodal_diffusion` is the command `amodal-diffusion`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
