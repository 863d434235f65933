"""Ask PyPI's advisories about the releases of requirements.lock, and say which had no answer.

It fails where a release is known to be vulnerable. Where PyPI cannot be asked, it says so and does
not fail: what nobody could look up is not found to be safe.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
COMMAND = ("-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off")


def verdict(report: str, errors: str) -> tuple[int, str]:
    """Return exit code and message.

    Args:
        report: What pip-audit wrote as JSON; something else where it failed.
        errors: What it wrote beside that.
    """
    try:
        releases = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        reason = errors.strip().splitlines()[-1:] or ["no report"]
        return 0, f"No release could be audited: {reason[0][:200]}"
    found = [(r["name"], r["version"], v["id"]) for r in releases for v in r.get("vulns", ())]
    audited = sum("skip_reason" not in release for release in releases)
    lines = [f"{name} {version}: {vulnerability}" for name, version, vulnerability in found]
    lines.append(f"{audited} of {len(releases)} releases audited, {len(found)} vulnerabilities.")
    if audited < len(releases):
        lines.append("PyPI has no answer about the others.")
    return int(bool(found)), "\n".join(lines)


def main() -> int:
    """Audit the lock file."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    command = [sys.executable, *COMMAND, "--format=json", f"--requirement={LOCK}"]
    found = subprocess.run(command, capture_output=True, text=True)
    code, message = verdict(found.stdout, found.stderr)
    print(message)
    return code


if __name__ == "__main__":
    sys.exit(main())
