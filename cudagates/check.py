"""Compares measurements with what is expected (expectations.py), registers in the units of eight that are allocated."""

from cudagates import expectations
from cudagates.architectures import REGISTER_UNIT, resident_warps, round_up
from cudagates.measure import Job
from kernels.cuda import nvrtc
from kernels.cuda.launch import STORAGE
from kernels.system import cli

_TYPES = {macro: name for name, (macro, _) in STORAGE.items()}


def jobs(path, architectures=expectations.ARCHITECTURES):
    """The compilations of a file, one for each storage type, variant and architecture."""
    source = expectations.source(path)
    return [
        Job(path, ((STORAGE[type_name][0], 1), *variant.items()), arch)
        for type_name in source.types
        for variant in expectations.variants(source, type_name)
        for arch in architectures
        if arch >= source.oldest
    ]


def key(job, kernel):
    """The name of a kernel's budgets: "layernorm.cu layernorm_forward float16 ITEMS=2"."""
    (macro, _), *others = job.macros
    return " ".join([job.path.name, kernel, _TYPES[macro], *(f"{name}={value}" for name, value in others)])


def row(job, measured, kernel):
    """The four numbers of a budget, as measured."""
    threads = measured.threads or expectations.source(job.path).of(kernel).threads
    warps = resident_warps(job.arch, measured.registers, measured.shared, threads)
    return [measured.registers, measured.spills, measured.shared, warps]


def violations(results, budgets):
    """The violated gates, a line each.

    results: what `measure` returned; budgets: of this NVRTC, {key: {"sm_80": row}}, or None to compare with none.
    """
    errors, wrong = [], {}
    for job, found in results.items():
        if isinstance(found, nvrtc.CompileError):
            errors.append(str(found).strip())
            continue
        for kernel in expectations.kernels(job.path):
            for text in _violations_of(job, kernel, found.get(kernel), budgets):
                wrong.setdefault((key(job, kernel), text), []).append(f"sm_{job.arch}")
    return errors + [f"{where}: {text} ({' '.join(where_on)})" for (where, text), where_on in wrong.items()]


def _violations_of(job, kernel, measured, budgets):
    if measured is None:
        return ["declared, but not compiled"]
    wrong = unmet_expectations(measured, expectations.source(job.path).of(kernel))
    if budgets is None:
        return wrong
    budget = budgets.get(key(job, kernel), {}).get(f"sm_{job.arch}")
    return wrong + over_budget(row(job, measured, kernel), budget)


def unmet_expectations(measured, expected):
    """What a MachineCode demands and a measured kernel lacks."""
    loads, stores = measured.count(r"LDG.*\.128"), measured.count(r"STG.*\.128")
    wrong = []
    if expected.wide in ("loads", "both") and not loads:
        wrong.append("no 128-bit load from global memory (LDG.E.128)")
    if expected.wide in ("stores", "both") and not stores:
        wrong.append("no 128-bit store to global memory (STG.E.128)")
    if expected.wide == "either" and not loads + stores:
        wrong.append("no 128-bit access to global memory")
    wrong += [f"no {opcode} instruction" for opcode in expected.opcodes if not measured.count(opcode)]
    if measured.local_in_loops:
        wrong.append(f"{measured.local_in_loops} accesses to local memory inside of loops")
    elif not expected.local_outside_loops and (measured.count(r"(LDL|STL)\b") or measured.stack):
        wrong.append(f"local memory: {measured.stack} bytes of stack, {measured.spills} bytes spilled")
    return wrong


def over_budget(measured, budget):
    """The numbers of a row that are worse than in its budget."""
    if budget is None:
        return [f"has no budget; run: {cli.command('cudagates')} --write"]
    allowed = [round_up(budget[0], REGISTER_UNIT), *budget[1:]]
    wrong = [
        f"{value} {name}, budget {limit}"
        for name, value, limit in zip(expectations.COLUMNS[:3], measured[:3], allowed[:3], strict=True)
        if value > limit
    ]
    if measured[3] < budget[3]:
        wrong.append(f"{measured[3]} {expectations.COLUMNS[3]}, budget at least {budget[3]}")
    if measured[3] == 0:
        wrong.append("a block does not fit on an SM")
    return wrong


def measured_budgets(results):
    """The measurements as budgets."""
    table = {}
    for job, found in results.items():
        if isinstance(found, nvrtc.CompileError):
            raise found
        for kernel in expectations.kernels(job.path):
            table.setdefault(key(job, kernel), {})[f"sm_{job.arch}"] = row(job, found[kernel], kernel)
    return dict(sorted(table.items()))
