"""How much a test tries: a part in `make test`, all of it in `make soak`."""

import os

SOAKS = os.environ.get("HARNESS_SOAK") == "1"


def budget(*, quick, soak):
    return soak if SOAKS else quick
