"""What is kept of compiled CUDA kernels: what is damaged is made again, what another account left is not loaded."""

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cudagates import measure
from cudasim import build
from cudasim import cache as sim_cache
from kernels.cuda import gpu, nvrtc, simulated
from kernels.system import cache

ROOT = Path(__file__).resolve().parents[3]
SOURCE = 'extern "C" __global__ void put(int* out) { out[threadIdx.x] = threadIdx.x; }\n'
RUN = """
import ctypes
from cudasim import memory
from kernels.cuda import simulated
out = memory.allocate(16)
simulated.launch("put.cu", "put", {}, (1, 1, 1), (4, 1, 1), [ctypes.c_void_p(out.ctypes.data)], 0)
print(out.view("int32").tolist())
"""


def empty(path):
    path.write_bytes(b"")


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cleared(path):
    path.write_bytes(bytes(path.stat().st_size))


def a_link(path):
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


@pytest.fixture
def compiled(tmp_path):
    """run(environment, before): launches a kernel in a process that has no cache but the temporary folder tmp_path."""
    (tmp_path / "put.cu").write_text(SOURCE)

    def run(before="", **environment):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{before}\n{RUN}"
        env = {"HOME": str(tmp_path / "absent"), "TMPDIR": str(tmp_path), "PATH": os.environ["PATH"], **environment}
        result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (0, "[0, 1, 2, 3]\n"), result.stderr
        return result.stderr

    return run


# ------------------------------------------------------------------------------------- the simulator's libraries


@pytest.mark.compiler
def test_damaged_files_of_the_simulator_are_compiled_again(compiled, tmp_path):
    assert "compiling put.cu" in compiled()
    assert compiled() == ""
    (folder,) = tmp_path.glob("minigrad-*/cuda-sim")
    (library,), objects = folder.glob("*.so"), list(folder.glob("*.o"))
    assert objects
    for first, *others in ((empty,), (cut_short, empty, cut_short, cleared, a_link)):
        first(library)
        for damage, path in zip(others, objects, strict=False):
            damage(path)
        assert "compiling put.cu" in compiled()
        assert cache.read(library) is not None
    assert compiled() == ""
    assert not list(tmp_path.glob("minigrad-????????"))  # folders of processes are gone with them


@pytest.mark.compiler
def test_a_library_that_another_account_left_among_temporary_files_is_not_loaded(compiled, tmp_path):
    """Account 54321 is to load what this test's own account wrote, into the folder that it would use."""
    compiled()
    (library,) = tmp_path.glob("minigrad-*/cuda-sim/*.so")
    marker = tmp_path / "marker"
    code = f'#include <sys/stat.h>\n__attribute__((constructor)) static void f() {{ mkdir("{marker}", 0700); }}'
    subprocess.run(["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", "evil.so"], input=code, text=True, check=True,
                   cwd=tmp_path)  # fmt: skip
    cache.write(library, (tmp_path / "evil.so").read_bytes())
    with pytest.raises(AssertionError):  # in the account's own folder it is loaded, and has nothing of what is asked
        compiled()
    assert marker.is_dir()
    marker.rmdir()

    library.parents[1].rename(tmp_path / "minigrad-54321")
    old = tmp_path / "minigrad-cuda-sim"  # where earlier versions looked
    old.mkdir()
    (tmp_path / "evil.so").rename(old / library.name)
    said = compiled("import os; os.geteuid = lambda: 54321")
    assert not marker.exists()
    assert "no cache" in said and f"{tmp_path}/minigrad-54321 belongs to another account" in said
    assert "compiling put.cu" in said


@pytest.mark.compiler
def test_the_simulator_runs_where_nothing_can_be_kept(tmp_path, monkeypatch, capfd):
    (tmp_path / "put.cu").write_text(SOURCE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setattr(cache, "write", lambda path, content: False)
    assert simulated.load(tmp_path / "put.cu", {}).library_path
    assert not list(tmp_path.glob("minigrad/**/*.so"))


@pytest.mark.compiler
def test_a_library_on_a_disk_of_which_nothing_may_be_run_is_copied(tmp_path, monkeypatch):
    """The loader refuses it there, as on a file system that is mounted with noexec."""
    (tmp_path / "put.cu").write_text(SOURCE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "noexec"))
    load = ctypes.CDLL

    def refuse(path):
        if "noexec" in path:
            raise OSError(f"{path}: failed to map segment from shared object")
        return load(path)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    loaded = simulated.load(tmp_path / "put.cu", {}).library_path
    assert Path(loaded).parent == sim_cache.temporary()


@pytest.mark.compiler
def test_a_full_disk_is_no_mistake_in_the_source(monkeypatch):
    full = "as: final close failed: No space left on device"
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: SimpleNamespace(returncode=1, stderr=full))
    with pytest.raises(OSError, match="No space left on device"):
        build._run(["-c", "x.cpp"])


# -------------------------------------------------------------------------------- NVIDIA's headers, measurements


@pytest.mark.slow
@pytest.mark.gpu_check
def test_damaged_headers_of_nvrtc_are_unpacked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = nvrtc.headers.__wrapped__()
    assert folder.is_relative_to(tmp_path)
    whole, made = nvrtc._digest(folder), folder.stat().st_ino
    assert nvrtc.headers.__wrapped__() == folder and folder.stat().st_ino == made
    for damage in (cut_short, os.unlink):
        damage(folder / "cuda_fp16.h")
        assert nvrtc.headers.__wrapped__() == folder
        assert nvrtc._digest(folder) == whole
    assert sorted(os.listdir(folder.parent)) == [folder.name, f"{folder.name}.sha256"]


def test_a_damaged_measurement_is_made_again(tmp_path, monkeypatch):
    """No compiler is needed: what it would give is put in its place."""
    (tmp_path / "put.cu").write_text(SOURCE)
    usage = nvrtc.Usage(registers=8, shared=0, stack=0, spill_stores=0, spill_loads=0, threads=4)
    compilations = []
    monkeypatch.setattr(nvrtc, "version", lambda: (0, 0))
    monkeypatch.setattr(nvrtc, "sass", lambda cubin: {"put": []})
    monkeypatch.setattr(
        nvrtc, "compile", lambda *args: compilations.append(args) or nvrtc.Compiled(b"", "", {"put": usage})
    )
    job = measure.Job(tmp_path / "put.cu", (), 80)
    expected = measure._measure(tmp_path, job)
    (entry,) = tmp_path.glob("*.measured")
    for damage in (empty, cut_short, cleared, a_link):
        damage(entry)
        assert measure._measure(tmp_path, job) == expected
        assert measure._measure(tmp_path, job) == expected
    assert len(compilations) == 1 + 4
    assert measure._measure(None, job) == measure._measure(None, job) == expected  # no cache


# --------------------------------------------------------------------------------------------------- CuPy's


@pytest.mark.gpu_check
def test_cupy_keeps_what_it_compiles_in_our_folder(tmp_path):
    """By itself it makes a folder named ~ where there is no home, and cannot be imported if the home is read-only."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import pwd
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
from kernels.cuda import gpu
gpu._prepare_cache()
from cupy.cuda import compiler
print(compiler._kernel_cache_backend._cache_dir)
"""
    run = subprocess.run([sys.executable, "-c", code], env={"TMPDIR": str(tmp_path)}, cwd=tmp_path, capture_output=True,
                         text=True)  # fmt: skip
    (ours,) = tmp_path.glob("*")
    assert run.stdout == f"{ours}/cupy\n", run.stderr


def test_what_cupy_cannot_keep_is_compiled_all_the_same(tmp_path, monkeypatch, capfd):
    """A module that, as CuPy's, fails once it is compiled and cannot be written down."""
    compiled = []

    class Module:
        def __init__(self, **kwargs):
            pass

        def compile(self):
            compiled.append(os.environ.get("CUPY_CACHE_IN_MEMORY"))
            if compiled[-1] is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "")
    monkeypatch.delenv("CUPY_CACHE_IN_MEMORY")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=Module))
    monkeypatch.setattr(gpu, "capability", lambda: 80)
    monkeypatch.setattr(cache, "_said", set())
    (tmp_path / "put.cu").write_text(SOURCE)
    gpu._module.__wrapped__(tmp_path / "put.cu", ())
    assert compiled == [None, "1"]
    assert "No space left on device" in capfd.readouterr().err
