"""Exit codes of the program: what a restart policy, and the person who reads `docker ps`, can make of them."""

EXIT_WEDGED = 70
"""EX_SOFTWARE: a part died or hung; a restart mends it."""

EXIT_BUSY = 75
"""EX_TEMPFAIL: somebody else is at work; a restart may help later."""

EXIT_CONFIG = 78
"""EX_CONFIG: settings or STATE_DIR cannot be used; a restart cannot help."""

EXIT_INSISTED = 130
"""A second signal, as a shell reports Ctrl-C."""
