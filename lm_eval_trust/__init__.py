"""Trustworthiness tasks, steered models and checkpoint analysis for lm-evaluation-harness.

Use it from Python with ``import lm_eval_trust as let``; each name below is imported when it is
first used, since every Python process of the environment imports this package.

The start-up hook imports this package before pytest can rewrite it: PYTEST_DONT_REWRITE.
"""

__version__ = "0.1.0"

#: Public name → module that defines it. The three functions that a sub-package has the name of are
#: that sub-package, which can be called: see :mod:`lm_eval_trust._callable`.
_MODULES = {
    "AuditResult": "lm_eval_trust.api.auditing",
    "ComparisonResult": "lm_eval_trust.api.comparison",
    "EvaluationResult": "lm_eval_trust.api.evaluation",
    "ExternalError": "lm_eval_trust.core.errors",
    "InputError": "lm_eval_trust.core.errors",
    "LeakError": "lm_eval_trust.core.errors",
    "MissingDataError": "lm_eval_trust.core.errors",
    "Model": "lm_eval_trust.api.models",
    "ProbingResult": "lm_eval_trust.api.probing",
    "SteeringPlan": "lm_eval_trust.steering.plan",
    "SteeringVector": "lm_eval_trust.steering.vectors",
    "SweepResult": "lm_eval_trust.api.sweeping",
    "TrustError": "lm_eval_trust.core.errors",
    "audit": "lm_eval_trust.audit",
    "build_vector": "lm_eval_trust.api.vectors",
    "compare": "lm_eval_trust.api.comparison",
    "evaluate": "lm_eval_trust.evaluate",
    "load": "lm_eval_trust.api.models",
    "load_results": "lm_eval_trust.api.evaluation",
    "load_vector": "lm_eval_trust.steering.vectors",
    "probe": "lm_eval_trust.api.probing",
    "steering_plan": "lm_eval_trust.api.vectors",
    "sweep": "lm_eval_trust.sweep",
}

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from lm_eval_trust.api.auditing import AuditResult as AuditResult
    from lm_eval_trust.api.auditing import audit as audit
    from lm_eval_trust.api.comparison import ComparisonResult as ComparisonResult
    from lm_eval_trust.api.comparison import compare as compare
    from lm_eval_trust.api.evaluation import EvaluationResult as EvaluationResult
    from lm_eval_trust.api.evaluation import evaluate as evaluate
    from lm_eval_trust.api.evaluation import load_results as load_results
    from lm_eval_trust.api.models import Model as Model
    from lm_eval_trust.api.models import load as load
    from lm_eval_trust.api.probing import ProbingResult as ProbingResult
    from lm_eval_trust.api.probing import probe as probe
    from lm_eval_trust.api.sweeping import SweepResult as SweepResult
    from lm_eval_trust.api.sweeping import sweep as sweep
    from lm_eval_trust.api.vectors import build_vector as build_vector
    from lm_eval_trust.api.vectors import steering_plan as steering_plan
    from lm_eval_trust.core.errors import ExternalError as ExternalError
    from lm_eval_trust.core.errors import InputError as InputError
    from lm_eval_trust.core.errors import LeakError as LeakError
    from lm_eval_trust.core.errors import MissingDataError as MissingDataError
    from lm_eval_trust.core.errors import TrustError as TrustError
    from lm_eval_trust.steering.plan import SteeringPlan as SteeringPlan
    from lm_eval_trust.steering.vectors import SteeringVector as SteeringVector
    from lm_eval_trust.steering.vectors import load_vector as load_vector

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> "Any":
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_MODULES[name])
    found = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
