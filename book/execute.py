"""Execute notebooks with papermill, a few at a time, and keep the results that are still true.

Run as a script it is the worker: it executes one notebook in this process and reports each cell
as a line of JSON on standard output. Imported it is the scheduler, which starts such workers.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import keys

from trix.files import atomic_path

# One thread a notebook: two run side by side, and a number must not depend on the machine's cores.
THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
# The kernel comes from this environment even where the user has registered another one.
ENVIRONMENT = {**THREADS, "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
STARTS = 3  # of a kernel that dies before its first cell
QUIET_SECONDS = 5.0  # between two lines about the same notebook, where there is no terminal


@dataclass
class Run:
    """One notebook and what became of it."""

    source: Path
    seconds: float = 0.0
    cached: bool = False
    failure: str = ""
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The notebook's file name without its suffix."""
        return self.source.stem


class Ledger:
    """The hashes under which the notebooks of one folder were executed, in one JSON file."""

    def __init__(self, folder: Path) -> None:
        """Read the ledger of `folder`; one that cannot be read counts as empty."""
        self.path = folder / "keys.json"
        self.entries: dict[str, dict] = {}
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            self.entries = json.loads(self.path.read_text())

    def hashes(self, name: str) -> dict[str, str] | None:
        """Return the hashes that the kept result of a notebook was computed with."""
        return self.entries.get(name, {}).get("hashes")

    def seconds(self, name: str) -> float:
        """Return how long the last execution took, 0 if there was none."""
        return self.entries.get(name, {}).get("seconds", 0.0)

    def keep(self, run: Run) -> None:
        """Write down a finished run, or forget a failed one."""
        self.entries.pop(run.name, None)
        if not run.failure:
            self.entries[run.name] = {"seconds": run.seconds, "hashes": run.hashes}
        write(self.path, json.dumps(self.entries, indent=1, sort_keys=True).encode())


class Progress:
    """Says what is going on: one moving line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        """Find out whether standard output is a terminal."""
        self.live = sys.stdout.isatty()
        self.lock = threading.Lock()
        self.states: dict[str, str] = {}
        self.spoken: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Print a line that stays."""
        with self.lock:
            print(("\r\033[K" if self.live else "") + text, flush=True)
            self._draw()

    def cell(self, name: str, done: int, total: int, seconds: float) -> None:
        """Report that `done` of `total` cells are behind a notebook."""
        state = f"{name}: cell {done}/{total}, {seconds:.0f} s"
        with self.lock:
            self.states[name] = state
            now = time.monotonic()
            if not self.live and now - self.spoken.get(name, -QUIET_SECONDS) >= QUIET_SECONDS:
                self.spoken[name] = now
                print(f"  {state}", flush=True)
            self._draw()

    def finish(self, run: Run) -> None:
        """Report the end of a notebook."""
        with self.lock:
            self.states.pop(run.name, None)
        self.say(f"{'FAILED' if run.failure else 'done'}  {run.name} after {run.seconds:.1f} s")

    def _draw(self) -> None:
        if self.live and self.states:
            width = os.get_terminal_size().columns - 1
            print("\r\033[K" + "  |  ".join(self.states.values())[:width], end="", flush=True)


def write(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def run_all(
    notebooks: list[Path],
    folder: Path,
    parameters: dict[str, object],
    depends: dict[str, str],
    jobs: int,
) -> list[Run]:
    """Bring the executed copies in `folder` up to date.

    Args:
        notebooks: the sources.
        folder: where the executed copies and the ledger live; copies without a source go.
        parameters: what papermill injects.
        depends: hashes of what all notebooks depend on, by name.
        jobs: how many run at the same time.

    Returns:
        One `Run` a notebook, in the order given. Failures are in `Run.failure`; a notebook that
        fails stops no other.
    """
    ledger = Ledger(folder)
    runs, todo = [], []
    for source in notebooks:
        run = Run(source, hashes={"its cells": keys.of_notebook(source), **depends})
        runs.append(run)
        why = keys.changed(ledger.hashes(run.name), run.hashes)
        if why or not (folder / source.name).is_file():
            todo.append((run, ", ".join(why) or "the executed copy is gone"))
        else:
            run.cached, run.seconds = True, ledger.seconds(run.name)
    _forget_others(folder, {source.name for source in notebooks})

    progress = Progress()
    if cached := sum(run.cached for run in runs):
        progress.say(f"{cached} of {len(runs)} notebooks are up to date")
    # The slowest first, so that none is left running alone at the end.
    todo.sort(key=lambda item: -ledger.seconds(item[0].name))
    workers: set[subprocess.Popen] = set()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(_execute, run, why, folder, parameters, progress, workers): run
            for run, why in todo
        }
        try:
            for future in as_completed(futures):
                future.result()
                ledger.keep(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in list(workers):
                worker.terminate()
            raise
    return runs


def _forget_others(folder: Path, names: set[str]) -> None:
    for stale in folder.glob("*.ipynb"):
        if stale.name not in names:
            stale.unlink()
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()


def _execute(
    run: Run,
    why: str,
    folder: Path,
    parameters: dict[str, object],
    progress: Progress,
    workers: set[subprocess.Popen],
) -> None:
    progress.say(f"start {run.name}: {why}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / run.source.name
    target.unlink(missing_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    command = [sys.executable, __file__, str(run.source), str(temporary), json.dumps(parameters)]
    start = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    ) as worker:
        workers.add(worker)
        run.failure = _follow(run, worker, progress, start)
        workers.discard(worker)
    run.seconds = round(time.monotonic() - start, 1)
    if run.failure:
        temporary.unlink(missing_ok=True)
    else:
        temporary.replace(target)
    progress.finish(run)


def _follow(run: Run, worker: subprocess.Popen, progress: Progress, start: float) -> str:
    """Pass on a worker's reports until it ends; return its failure, '' if it has none."""
    assert worker.stdout is not None  # it was opened with a pipe
    other_output = []
    failure = ""
    for line in worker.stdout:
        try:
            report = json.loads(line)
            cell, total = report["cell"], report["of"]
        except (json.JSONDecodeError, TypeError, KeyError):
            other_output.append(line)
            continue
        failure = report.get("failure", "")
        progress.cell(run.name, cell, total, time.monotonic() - start)
    status = worker.wait()
    if failure or status == 0:
        return failure
    return f"{run.name}: the worker ended with status {status}\n{''.join(other_output)}"


def main(source: str, target: str, parameters: str) -> int:
    """Execute one notebook in this process, with a line of JSON before each cell."""
    import logging

    import papermill
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

    logging.disable(logging.WARNING)
    at = {"cell": 0, "of": 0}

    def report(**more: str) -> None:
        print(json.dumps({**at, **more}), flush=True)

    class ReportingEngine(NBClientEngine):
        """papermill's own engine, which also says where it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, *given, **options):
            started = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                written = [
                    index
                    for index, other in enumerate(nb_man.nb.cells)
                    if "injected-parameters" not in other.metadata.get("tags", [])
                ]
                before = sum(index <= (cell_index or 0) for index in written)
                at.update(cell=before, of=len(written))
                report()
                started(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, *given, **options)

    papermill_engines.register("reporting", ReportingEngine)
    name, given = Path(source).name, json.loads(parameters)
    known = papermill.inspect_notebook(source)
    if unknown := sorted(set(given) - set(known)):
        # papermill itself would inject it all the same, and the notebook run without it
        report(failure=f"{name}: parameters must be among {sorted(known)}, got {unknown}")
        return 1
    for start in range(1, STARTS + 1):
        try:
            papermill.execute_notebook(
                source,
                target,
                parameters=given,
                engine_name="reporting",
                kernel_name="python3",
                language="python",
                cwd=Path(source).parent,
                progress_bar=False,
                request_save_on_cell_execute=False,
            )
            return 0
        except PapermillExecutionError as error:
            trace = "\n".join(error.traceback)
            where = f"{name}, cell {at['cell']} of {at['of']}"
            report(failure=f"{where} raised:\n\n{error.source}\n\n{trace}")
            return 1
        except Exception as error:
            # kernels that start at the same time may choose the same port: one dies, unheard of
            if start < STARTS and at["cell"] == 0 and "Kernel died before" in str(error):
                continue
            where = f"{name}, cell {at['cell']} of {at['of']}"
            report(failure=f"{where}: {type(error).__name__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
