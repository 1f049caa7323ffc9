"""Build the book: execute the notebooks, lay out the pages, run Jupyter Book.

`make book` and `make full` call this. Everything it writes is under `_build/`:

    executed/<budget>/   executed notebooks, and the hashes they were computed with
    src/                 what Jupyter Book reads
    html/                the finished book
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import keys
import stage
from execute import Run, run_all, write

from trix.files import locked

TROUBLE = re.compile(r"\b(?:WARNING|ERROR|CRITICAL|\w+Error): ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Build the book and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", choices=("quick", "full"), default="quick")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks executed at the same time")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs: expected at least 1, got {options.jobs}")
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # without a path
    with alone(ROOT / "_build"):
        return build(options.budget, options.jobs)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a folder to this build, after any other that is at work in it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            print("Another build is at work here; waiting until it is done", flush=True)
            held.enter_context(locked(folder))
        yield


def build(budget: str, jobs: int) -> int:
    """Execute what has changed, make the pages, say what was done; return the exit status."""
    start = time.monotonic()
    if problems := stage.missing_from_toc(ROOT):
        print("\n".join(problems), file=sys.stderr)
        return 1
    executed = ROOT / "_build" / "executed" / budget
    runs = execute(executed, budget, jobs)
    failed = [run for run in runs if run.failure]
    for run in failed:
        failure = run.failure if sys.stderr.isatty() else COLOUR.sub("", run.failure)
        print(f"\n{'-' * 80}\n{failure}", file=sys.stderr)
    if failed:
        names = ", ".join(run.name for run in failed)
        print(f"\n{len(failed)} of {len(runs)} notebooks failed: {names}", file=sys.stderr)
        print("No book was built.", file=sys.stderr)
        return 1

    if not build_html(stage.book(ROOT, executed, runs, budget)):
        return 1
    report(runs, budget, time.monotonic() - start)
    return 0


def execute(executed: Path, budget: str, jobs: int) -> list[Run]:
    """Bring the executed notebooks of a budget up to date."""
    corpus = keys.of_corpus()
    print(f"The text is {corpus[0]} (SHA-256 {corpus[1][:12]}…)", flush=True)
    # by name, so that every chapter reads the text that was settled on here
    parameters: dict[str, object] = {"budget": budget, "text": corpus[0]}
    depends = keys.shared(ROOT, parameters, corpus)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return run_all(notebooks, executed, parameters, depends, jobs)


def build_html(files: dict[str, bytes]) -> bool:
    """Run Jupyter Book over these files unless the book already is what they make.

    The build starts from nothing and takes the place of the last book only once it is whole: a
    page that gave a warning can then never slip through as unchanged the next time.
    """
    source, work, html = (ROOT / "_build" / name for name in ("src", "sphinx", "html"))
    stage.sync(source, files)
    stamp = html / ".made-from"
    made_from = keys.of_bytes(
        stage.dumps({name: keys.of_bytes(data) for name, data in files.items()}).encode()
    )
    # The reference is read from the docstrings, the theme from the pinned packages.
    made_from += keys.of_files([*keys.files_under(ROOT / "trix"), ROOT / "constraints.txt"], ROOT)
    if stamp.is_file() and stamp.read_text() == made_from:
        print("The pages are up to date", flush=True)
        return True

    shutil.rmtree(work, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(source)]
    command += ["--path-output", str(work), "-n", "-W", "--keep-going"]
    status, problems = watch(command)
    if status:
        print(f"\nJupyter Book ended with status {status}.", *problems, sep="\n", file=sys.stderr)
        return False
    finished = work / "_build" / "html"
    write(finished / stamp.name, made_from.encode())
    last = work / "last"
    if html.exists():
        html.rename(last)
    finished.rename(html)
    shutil.rmtree(work)
    return True


def watch(command: list[str]) -> tuple[int, list[str]]:
    """Run a command, pass its output on, and return its status and the lines that tell of trouble.

    Between the first warning and the end there may be hundreds of lines.
    """
    problems = []
    boxed = False
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        for line in process.stdout or ():
            plain = COLOUR.sub("", line)
            # It closes with a box that names the folder the pages are about to leave.
            boxed = boxed or plain.startswith("=====")
            if not boxed:
                print(line if sys.stdout.isatty() else plain, end="", flush=True)
            if TROUBLE.search(plain):
                problems.append(plain.rstrip())
    return process.returncode, problems


def report(runs: list[Run], budget: str, seconds: float) -> None:
    """Print the seconds of each notebook and where the book is."""
    width = max((len(run.name) for run in runs), default=0)
    limit = stage.LIMIT_SECONDS.get(budget, float("inf"))
    print(f"\nSeconds a notebook took at the {budget} budget:")
    for run in runs:
        note = "   kept from an earlier build" if run.cached else ""
        note += f"   over its {limit:.0f} s" if run.seconds > limit else ""
        print(f"  {run.name:{width}}  {run.seconds:6.1f}{note}")
    print(f"Everything together took {seconds:.0f} s.")
    index = ROOT / "_build" / "html" / "index.html"
    print(f"\nThe book: {index.relative_to(ROOT)}\n          {index.as_uri()}")
    print("          or: make serve")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; finished notebooks are kept.", file=sys.stderr)
        sys.exit(130)
