"""A simulated CUDA device: compiles a .cu file with g++, runs it on the CPU thread by thread, and checks every access.

    from cudasim import module
    kernels = module.load("sums.cu", {}, "check", include=["headers"])
    kernels.launch("sums", (8, 1, 1), (128, 1, 1), [c_void_p(...), ...])

README.md in this folder tells what it checks and what it cannot. On the command line: python -m cudasim --help.

    __main__.py   the command line
    module.py     a compiled .cu file: launch its kernels, explain their faults
    source.py     reads a .cu file and makes it C++: headers, shared memory, the table of its kernels
    build.py      compiles it with g++, together with runtime/
    cache.py      where compiled files are kept, unless the caller has a place of its own
    array.py      arrays on the device, which behave as CuPy's do
    streams.py    streams and events: copies run as late as a program allows
    memory.py     what is allocated, and which of its bytes have been written
    argument_text.py  kernel arguments written as text
    lines.py      from an address in a compiled kernel to a line of its source
    traffic.py    bytes moved, line by line
    include/      what CUDA C++ has built in, for g++
    runtime/      threads, barriers, warps; the checker

It is part of the distribution tiny-transformer-np, and depends on NumPy and g++ alone.
"""
