"""``python -m lm_eval_trust``: the command ``lm-eval-trust``, e.g. under ``accelerate launch``."""

import sys

from lm_eval_trust.cli import main

if __name__ == "__main__":
    sys.exit(main())
