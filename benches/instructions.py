#!/usr/bin/env python3
"""Instruction counts of the hot paths, per 10,000 rows, under callgrind: they don't depend on the machine's load.

    cargo xtask bench instructions              counts, and fails where something has grown by more than 3 %
    cargo xtask bench instructions --record     makes these counts the new baseline

The meters are ignored tests named `meter_…` of the connectors, built natively; only their function `counted` is
counted. Callgrind counts a string instruction once per byte, as if it were a loop. Standard library only.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "instructions.json"
GROWTH = 0.03
# Connectors with meters.
METERED = ["source-postgres", "dest-postgres"]


def executable(package, target):
    """Builds a package's unit tests, as connectors are built for the sandbox but with their symbols; the path."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_PROFILE_RELEASE_STRIP": "none",
                   "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only"}
    command = ["cargo", "test", "--release", "--locked", "--lib", "--no-run", "--message-format", "json", "-p", package]
    done = subprocess.run(command, cwd=HERE.parent / "connectors", env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: the meters of `{package}` do not build")
    for line in done.stdout.splitlines():
        built = json.loads(line)
        if built.get("reason") == "compiler-artifact" and built.get("executable") and built["profile"]["test"]:
            return built["executable"]
    sys.exit(f"error: `{package}` has no tests")


def count(program, test):
    """Instructions inside `counted` while this test runs."""
    with tempfile.TemporaryDirectory() as place:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=*meter::counted*", f"--callgrind-out-file={place}/out",
                   program, "--ignored", "--exact", test, "--test-threads", "1"]
        done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found or int(found.group(1)) == 0 or "1 passed" not in done.stdout:
        sys.exit(f"error: `{test}` was not counted:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return int(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-dir", help="where the meters are built; `cargo xtask bench` gives it")
    parser.add_argument("--record", action="store_true", help="writes the baseline")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("error: `valgrind` is not installed\nhint: install it with `apt-get install valgrind`")
    target = Path(arguments.target_dir or HERE.parent / "target" / "meters").resolve()
    counts = {}
    for package in METERED:
        program = executable(package, target)
        listed = subprocess.run([program, "--list", "--ignored"], capture_output=True, text=True, check=True).stdout
        tests = [line.removesuffix(": test") for line in listed.splitlines() if "::meter_" in line]
        if not tests:
            sys.exit(f"error: `{package}` has no meters")
        for test in tests:
            counts[test.rpartition("::meter_")[2]] = count(program, test)
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"instructions": {}}
    rustc = subprocess.check_output(["rustc", "--version"], text=True, cwd=HERE.parent).strip()
    document = {"at": datetime.date.today().isoformat(), "rustc": rustc, "per_rows": 10_000, "instructions": counts}
    if known.get("rustc") not in (None, rustc) and not arguments.record:
        print(f"note: the baseline was made by {known['rustc']}, this is {rustc}")
    grown = []
    print(f"{'meter':<26}{'instructions':>14}{'baseline':>14}{'change':>9}")
    for name, found in counts.items():
        before = known["instructions"].get(name)
        change = found / before - 1 if before else 0.0
        print(f"{name:<26}{found:>14,}{before or 0:>14,}{change:>+9.1%}")
        if before is None and not arguments.record:
            grown.append(f"{name} is not in the baseline")
        elif change > GROWTH:
            grown.append(f"{name} has grown by {change:.1%}")
    missing = sorted(known["instructions"].keys() - counts.keys())
    grown += [f"{name} was not counted" for name in missing]
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "instructions.json").write_text(json.dumps(document, indent=2) + "\n")
    if arguments.record:
        BASELINE.write_text(json.dumps(document, indent=2) + "\n")
    elif grown:
        sys.exit("error: " + "; ".join(grown) + "\nhint: make it cheaper, or record the new counts with `--record` and say why")


if __name__ == "__main__":
    main()
