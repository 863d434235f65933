"""The start-up hook: what it costs, what it leaves alone, what it cannot break."""

from __future__ import annotations

import ast
import json
import sys
import textwrap
from pathlib import Path

import lm_eval_trust._hook as hook


def ask(environment, code: str, *flags: str):
    """Run code that prints JSON in the environment; nothing may be written to stderr."""
    result = environment.run(*flags, "-c", textwrap.dedent(code))
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return json.loads(result.stdout)


def test_hook_imports_nothing_but_sys_when_it_is_loaded() -> None:
    tree = ast.parse(Path(hook.__file__).read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imported] == ["import sys"]


def test_bare_process_loads_the_hook_and_nothing_else_of_ours(installed) -> None:
    modules = ask(installed, "import json, sys; print(json.dumps(sorted(sys.modules)))")
    ours = [name for name in modules if name.startswith("lm_eval")]
    assert ours == ["lm_eval_trust", "lm_eval_trust._hook"]


def test_start_up_adds_only_our_two_modules(installed) -> None:
    """Against a start without .pth files: no further module is loaded for the hook."""
    code = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    added = set(ask(installed, code)) - set(ask(installed, code, "-S"))
    assert {name for name in added if name.startswith("lm_eval")} == {
        "lm_eval_trust",
        "lm_eval_trust._hook",
    }
    assert not added & {"re", "logging", "importlib.util", "pathlib", "typing", "inspect"}


def test_finding_a_spec_executes_nothing(installed) -> None:
    answer = ask(
        installed,
        """
        import importlib.util, json, sys
        spec = importlib.util.find_spec("lm_eval.models")
        ours = [n for n in sys.modules if n.startswith("lm_eval_trust.")]
        print(json.dumps([spec.name, "lm_eval.models" in sys.modules, ours]))
        """,
    )
    assert answer == ["lm_eval.models", False, ["lm_eval_trust._hook"]]


def test_imported_module_keeps_its_real_loader(installed) -> None:
    answer = ask(
        installed,
        """
        import json, lm_eval.models as m
        print(json.dumps([type(m.__loader__).__name__, m.__spec__.loader is m.__loader__]))
        """,
    )
    assert answer == ["SourceFileLoader", True]


def test_reload_registers_again_without_an_error(installed) -> None:
    answer = ask(
        installed,
        """
        import importlib, json, lm_eval.models as m
        from lm_eval.api.registry import model_registry as registry
        before = sorted(registry)
        importlib.reload(m)
        print(json.dumps([before == sorted(registry), "steered_amber" in before]))
        """,
    )
    assert answer == [True, True]


def test_two_copies_of_the_hook_do_not_ask_each_other_in_a_circle(installed) -> None:
    answer = ask(
        installed,
        """
        import json, sys
        from importlib.util import module_from_spec, spec_from_file_location
        import lm_eval_trust._hook as first
        spec = spec_from_file_location("second_hook", first.__file__)
        second = module_from_spec(spec)
        spec.loader.exec_module(second)
        second.install()
        hooks = [f for f in sys.meta_path if getattr(f, "__name__", "") == "_LmEvalFinder"]
        import lm_eval.models
        from lm_eval.api.registry import model_registry
        print(json.dumps([len(hooks), "hf" in model_registry, "amber" in model_registry]))
        """,
    )
    assert answer == [2, True, True]


def test_second_install_does_nothing(monkeypatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    hook.install()
    once = list(sys.meta_path)
    hook.install()
    assert sys.meta_path == once


def test_finders_and_loaders_of_the_old_kind_are_left_alone(monkeypatch) -> None:
    """A finder without ``find_spec`` is passed over, a loader without ``exec_module`` kept."""

    class OldLoader:
        def load_module(self, name):
            raise AssertionError("nothing is loaded here")

    class OldFinder:
        def find_module(self, name, path=None):
            raise AssertionError("the import system no longer asks this")

    class Spec:
        loader = OldLoader()

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return Spec

    monkeypatch.setattr(sys, "meta_path", [hook._LmEvalFinder, OldFinder(), Finder])
    found = hook._LmEvalFinder.find_spec("lm_eval.models")
    assert found is Spec
    assert isinstance(found.loader, OldLoader)


def test_other_modules_are_none_of_its_business() -> None:
    for name in ("json", "lm_eval", "lm_eval.tasks", "lm_eval.models.huggingface"):
        assert hook._LmEvalFinder.find_spec(name) is None


def test_loader_passes_every_other_question_on() -> None:
    from importlib.machinery import SourceFileLoader

    real = SourceFileLoader("some.module", hook.__file__)
    wrapped = hook._AttachingLoader(real)
    assert wrapped.get_source("some.module") == real.get_source("some.module")
    assert wrapped.is_package("some.module") == real.is_package("some.module")
    assert not hasattr(wrapped, "no_such_question")


def test_threads_that_import_at_once_all_see_our_models(installed) -> None:
    answer = ask(
        installed,
        """
        import json, threading
        from lm_eval.api.registry import model_registry
        seen, start = [], threading.Barrier(8)
        def look():
            start.wait()
            import lm_eval.models
            seen.append("steered_amber" in model_registry and "hf" in model_registry)
        threads = [threading.Thread(target=look) for _ in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        print(json.dumps(seen))
        """,
    )
    assert answer == [True] * 8
