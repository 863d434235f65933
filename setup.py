"""Lay two start-up files at the root of site-packages; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

STARTUP = {
    # Python < 3.18; ignored where a matching .start file is understood (PEP 829, Python >= 3.15)
    "lm_eval_trust.pth": (
        'import sys; exec("try:\\n from lm_eval_trust._hook import install\\n install()'
        '\\nexcept Exception:\\n pass")\n'
    ),
    "lm_eval_trust.start": "lm_eval_trust._hook:install\n",
}


class BuildPy(build_py):
    """Add the start-up files to wheels and to editable wheels."""

    def run(self) -> None:
        """Build as usual, then write the files."""
        super().run()
        if self.editable_mode:
            root = self.get_finalized_command("install").install_lib
        else:
            root = self.build_lib
        for name, text in STARTUP.items():
            Path(root, name).write_text(text, encoding="utf-8")


setup(cmdclass={"build_py": BuildPy})
