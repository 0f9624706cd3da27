"""What test_opinfo.py asks of PyTorch's samples at present. An operator that is finished leaves UNFINISHED."""

#: dtype -> the part of the calls that must be equal, without those that the table of ambiguous calls refuses
LEAST_EQUAL = {"float64": 0.95, "float32": 0.95, "float16 elementwise": 0.95}

#: operators of which some calls still end in another result, in an unclear error, or in a name that is missing
UNFINISHED = frozenset()

#: functions of which some calls with NumPy's keywords do not give NumPy's values
UNFINISHED_BESIDE_NUMPY = frozenset()

#: names of which some calls without keywords end in another result, or in an unclear error
UNFINISHED_WITHOUT_KEYWORDS = frozenset()
