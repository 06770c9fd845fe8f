"""Docker images with tasks and executable validators, as Gymnasium environments on a real terminal.

Importing this package registers the ids of the installed catalogues with gymnasium, by name only.
"""

from terminal_gym.registration import register, register_installed

__all__ = ["__version__", "register"]
__version__ = "0.1.0"

register_installed()
