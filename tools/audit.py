"""`make audit`: says what pip-audit's report means, and never that all is well of what it skipped.

pip-audit itself ends with 0 and "no known vulnerabilities" when its database does not know a
package, which is what a mirror of the package index without that database answers of every one.
"""

import json
import sys
from pathlib import Path


def main(path: Path) -> int:
    """Exit status: 0 where all was looked up and nothing found, 1 for findings, 2 not audited."""
    try:
        packages = json.loads(path.read_text(encoding="utf-8"))["dependencies"]
    except (OSError, ValueError, KeyError):
        sys.stderr.write("NOT AUDITED: the database of vulnerabilities could not be asked\n")
        return 2
    found = [(package, weakness) for package in packages for weakness in package.get("vulns", ())]
    for package, weakness in found:
        fixed = ", ".join(weakness["fix_versions"]) or "no version yet"
        sys.stdout.write(
            f"{package['name']} {package['version']}: {weakness['id']}, fixed in {fixed}\n"
        )
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped or not packages:
        names = ", ".join(skipped)
        sys.stderr.write(
            f"NOT AUDITED: {len(skipped)} of {len(packages)}, which the database that was "
            f"reached does not know: {names}\n"
        )
    if found:
        return 1
    return 2 if skipped or not packages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
