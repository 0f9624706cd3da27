"""The safetensors format, written array by array.

Its library either builds the whole file in memory, or writes it under a temporary name and with a mode of its own
choosing. The bytes here are those that it writes; a test compares them.
"""

import json

import numpy as np

# largest alignment first: so the format orders arrays, and by name where the dtype is the same
_DTYPES = {
    "uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
    "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def write(file, arrays, metadata):
    """Write arrays {name: array} and metadata {str: str} to an open binary file. Needs no memory of their size."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    rank = {dtype: i for i, dtype in enumerate(_DTYPES)}
    names = sorted(arrays, key=lambda name: (rank[arrays[name].dtype.name], name))
    header, end = {"__metadata__": metadata}, 0
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": (start, end),
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        array = arrays[name]
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
