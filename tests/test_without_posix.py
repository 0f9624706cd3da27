"""A system without what POSIX has: a stand-in for Windows, on which no test of ours runs.

Modules and names that only POSIX systems have are taken away before the program starts. It trains, resumes and samples.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import os, runpy, signal, sys, tempfile, subprocess
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGQUIT", "SIGTSTP", "SIGALRM"):
    delattr(signal, name)
for name in ("getuid", "geteuid", "getgid", "getegid", "fork", "register_at_fork", "sched_getaffinity", "O_DIRECTORY",
             "O_NOFOLLOW", "O_NONBLOCK", "statvfs", "chown", "getloadavg", "sysconf"):
    delattr(os, name)
out = sys.argv[1]
train = ["train.py", "--config", "tiny", "--no-preflight", "--out-dir", out, "--max-steps", "2"]
for argv in (train, ["train.py", "--resume", out, "--max-steps", "3"]):
    sys.argv = argv
    try:
        runpy.run_path("train.py", run_name="__main__")
    except SystemExit as left:
        assert not left.code, left.code
sys.argv = ["sampling", out, "--prompt", "the", "--tokens", "5", "--kernels", "reference"]
runpy.run_module("tiny_transformer_np.sampling", run_name="__main__")
"""


@pytest.mark.posix  # elsewhere there is nothing to take away
def test_training_and_sampling_need_nothing_that_only_posix_has(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "finished at step 2" in result.stdout and "finished at step 3" in result.stdout and "the" in result.stdout
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("minigrad: no locks for ") for line in lines), lines
