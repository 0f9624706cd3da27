"""python -m cudagates [--write] [--at-once N] [FILE.cu ...]: measure every kernel, print the table, check."""

import sys
from pathlib import Path

from cudagates import check, expectations
from cudagates.measure import measure
from kernels.cuda import nvrtc
from kernels.system import cli, streams
from kernels.system.files import is_file

PROG = "python -m cudagates"


@cli.command_line(PROG)
def main(argv=None):
    """Returns the exit status: 1 if a gate is broken, 2 if nothing can be measured."""
    parser = cli.Parser(prog=PROG, description=__doc__)
    parser.add_argument(
        "files",
        nargs="*",
        type=cli.path,
        metavar="FILE.cu",
        help="names of the files in kernels, or paths of your own; all of kernels by default",
    )
    parser.add_argument("--write", action="store_true", help="write what is measured as the new budgets")
    parser.add_argument("--at-once", type=int, default=2, help="compilations at once (default: 2)")
    arguments = parser.parse_args(argv)
    sources = {path.name: path for path in expectations.sources()}
    paths = [sources.get(name) or Path(name) for name in arguments.files] or list(sources.values())
    if unknown := [str(path) for path in paths if not is_file(path)]:
        parser.error(f"no {', '.join(unknown)}, neither in kernels nor as a path")
    if arguments.write and not set(paths) <= set(sources.values()):
        parser.error("--write keeps budgets of the files in kernels alone")
    if message := nvrtc.missing():
        streams.note(f"the gates need NVIDIA's compiler: {message}")
        return 2
    results = measure([job for path in paths for job in check.jobs(path)], arguments.at_once)
    print(table(results))
    if arguments.write:
        return write(results, complete=not arguments.files)
    budgeted = {job: found for job, found in results.items() if job.path in sources.values()}
    lines = check.violations(budgeted, expectations.read_budgets(nvrtc.version()) or {})
    lines += check.violations({job: found for job, found in results.items() if job not in budgeted}, None)
    print("\n".join(lines) or f"\nall gates hold: {len(results)} compilations, NVRTC {version_text()}")
    return 1 if lines else 0


def table(results):
    """A line for each kernel and its macros: registers, and the share of an SM's warps, for each architecture."""
    cells = {}
    for job, found in results.items():
        if isinstance(found, nvrtc.CompileError):
            continue
        for kernel, measured in sorted(found.items()):
            registers, spills, _, warps = check.row(job, measured, kernel)
            text = f"{registers}r {warps}w" + (f" {spills}s" if spills else "")
            cells.setdefault(check.key(job, kernel), {})[job.arch] = text
    width = max(map(len, cells), default=0)
    head = " " * width + "".join(f"  {f'sm_{arch}':>13}" for arch in expectations.ARCHITECTURES)
    lines = [
        f"{name:{width}}" + "".join(f"  {row.get(arch, '-'):>13}" for arch in expectations.ARCHITECTURES)
        for name, row in cells.items()
    ]
    return "\n".join(["r registers of a thread, w warps on an SM, s bytes spilled", head, *lines])


def write(results, complete):
    """Write the budgets: all of them, or those of some files, with the others left as they are."""
    errors = [str(found) for found in results.values() if isinstance(found, nvrtc.CompileError)]
    if errors:
        streams.note("\n".join(errors))
        return 1
    new = check.measured_budgets(results)
    if not complete:
        files = {name.split()[0] for name in new}
        old = expectations.read_budgets(nvrtc.version()) or {}
        new = {**{name: rows for name, rows in old.items() if name.split()[0] not in files}, **new}
    expectations.write_budgets(dict(sorted(new.items())), nvrtc.version())
    print(f"wrote {expectations.BUDGETS.name}: {len(new)} kernels, NVRTC {version_text()}")
    return 0


def version_text():
    return "{}.{}".format(*nvrtc.version())


if __name__ == "__main__":
    sys.exit(main())
