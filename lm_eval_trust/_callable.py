"""Rooms that can be called: ``lm_eval_trust.sweep`` is a package and a function of the Python API.

Three functions of the API have the name of the room that does their work. The import system sets
a sub-package as an attribute of its package, which would hide a function of the same name, so the
package itself is made callable (https://docs.python.org/3/reference/datamodel.html#module.__class__).
"""

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CallableRoom(ModuleType):
    """A package that calls the function of its own name in :mod:`lm_eval_trust.api`."""

    @property
    def __wrapped__(self) -> "Any":
        """The function, for ``help`` and ``inspect.signature``."""
        module, name = TARGETS[self.__name__]
        return getattr(import_module(module), name)

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        return self.__wrapped__(*args, **kwargs)


#: Room → module and name of the function.
TARGETS = {
    "lm_eval_trust.audit": ("lm_eval_trust.api.auditing", "audit"),
    "lm_eval_trust.evaluate": ("lm_eval_trust.api.evaluation", "evaluate"),
    "lm_eval_trust.sweep": ("lm_eval_trust.api.sweeping", "sweep"),
}


def make_callable(room: str) -> None:
    """Make the package that is being imported callable; see :data:`TARGETS`."""
    sys.modules[room].__class__ = CallableRoom
