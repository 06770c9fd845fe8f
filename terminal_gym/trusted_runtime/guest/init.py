"""PID 1 of every sandbox: takes orders on its terminal, then keeps a shell or judges.

Standard library only, run by the trusted tree's interpreter. A script is compiled at every start, so this file
stays short; what it does lies in the modules beside it, as byte code. The protocol is in `trusted_runtime/orders.py`.
"""

import sys

# The guest programs import one another by their full names; of those packages nothing else is in the tree.
for name in ("terminal_gym", "terminal_gym.trusted_runtime", "terminal_gym.trusted_runtime.guest"):
    package = type(sys)(name)
    package.__path__ = [__file__.rpartition("/")[0]] if name.endswith(".guest") else []
    sys.modules[name] = package

from terminal_gym.trusted_runtime.guest import duty  # noqa: E402

duty.serve()
