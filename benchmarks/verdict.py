"""Exit codes of the measurements: 0 all targets reached, 1 one is short, 2 nothing can be said (an error)."""

import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

SHORT, FAILED = 1, 2


def judged(main: Callable[[], None]) -> NoReturn:
    """Runs a script whose main ends in sys.exit(SHORT) where a target is short. Errors would end in 1 too."""
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            sys.exit(FAILED)
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)
    sys.exit(0)
