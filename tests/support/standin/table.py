"""Which functions the stand-in has, and what each takes: what NumPy and CuPy *both* accept.

A row is ``name: parameters``, in the order of both libraries. The marks:

``@x``  must be a stand-in array; CuPy does not convert a NumPy array or a list
``+x``  a list or tuple of stand-in arrays
``~x``  a stand-in array or a scalar
``?x``  anything; the function itself checks it
``x``   an axis, a shape, a dtype, never an array
``/``   what comes before it has another name in the other library: pass it by position
``*``   what comes after it has another position in the other library: pass it by keyword

To add a function, look its signature up in both references and write down what they share;
tests/test_standin.py compares every row with NumPy, and with CuPy where it is installed.
"""

_UFUNCS = {
    "~x / * @out dtype": "abs conj cos exp expm1 isfinite isinf isnan log log1p logical_not "
    "negative sign sin sqrt square tanh",
    "~x1 ~x2 / * @out dtype": "add divide equal floor_divide greater greater_equal less "
    "less_equal logical_and logical_or maximum minimum multiply not_equal power remainder subtract",
}
UFUNCS = {name: row for row, names in _UFUNCS.items() for name in names.split()}

FUNCTIONS = UFUNCS | {
    "add.at": "@a ?indices ~b /",
    # creation
    "arange": "start stop step / * dtype",
    "array": "?obj / dtype * copy order",
    "asarray": "?a dtype",
    "asnumpy": "?a",
    "ascontiguousarray": "@a dtype",
    "copy": "@a order",
    "empty": "shape dtype order",
    "empty_like": "@prototype / dtype order * shape",
    "eye": "N M k dtype order",
    "full": "shape ~fill_value dtype order",
    "full_like": "@a ~fill_value dtype order * shape",
    "ones": "shape dtype order",
    "ones_like": "@a dtype order * shape",
    "zeros": "shape dtype order",
    "zeros_like": "@a dtype order * shape",
    # shape
    "broadcast_to": "@array shape",
    "concatenate": "+tup / axis * dtype",
    "expand_dims": "@a axis",
    "flip": "@a / axis",
    "moveaxis": "@a source destination",
    "ravel": "@a order",
    "repeat": "@a repeats axis",
    "reshape": "@a shape /",
    "split": "@ary indices_or_sections axis",
    "squeeze": "@a axis",
    "stack": "+tup / axis * dtype",
    "swapaxes": "@a axis1 axis2",
    "transpose": "@a axes",
    "tril": "@m k",
    "triu": "@m k",
    # choosing and ordering
    "argmax": "@a axis * keepdims",
    "argmin": "@a axis * keepdims",
    "argsort": "@a axis kind",
    "clip": "@a ~a_min ~a_max @out",
    "copyto": "@dst ~src casting @where",
    "flatnonzero": "@a",
    "nonzero": "@a",
    "sort": "@a axis kind",
    "take": "@a ~indices axis",
    "take_along_axis": "@a / @indices axis",
    "unique": "@ar return_index return_inverse return_counts",
    "where": "@condition ~x ~y /",
    # reductions; CuPy's have neither where= nor initial=
    "all": "@a axis @out keepdims",
    "any": "@a axis @out keepdims",
    "count_nonzero": "@a axis",
    "cumsum": "@a axis dtype @out",
    "max": "@a axis @out keepdims",
    "mean": "@a axis dtype @out keepdims",
    "min": "@a axis @out keepdims",
    "prod": "@a axis dtype @out keepdims",
    "std": "@a axis dtype @out ddof keepdims",
    "sum": "@a axis dtype @out keepdims",
    "var": "@a axis dtype @out ddof keepdims",
    # products
    "dot": "@a @b @out",
    "einsum": "?subscripts / *@operands dtype optimize",
    "matmul": "@x1 @x2 / * @out dtype",
    "tensordot": "@a @b axes",
    # questions
    "allclose": "@a ~b rtol atol equal_nan",
    "array_equal": "@a1 @a2 equal_nan",
    "imag": "@val",
    "iscomplexobj": "@x",
    "real": "@val",
    "result_type": "*?arrays_and_dtypes",
}

METHODS = (
    "all any argmax argmin cumsum dot max mean min nonzero prod ravel repeat squeeze std sum "
    "swapaxes take var"
)
"""Rows that are methods too, the array being their first parameter."""

CONSTANTS = (
    "bool_ complex64 complex128 complexfloating dtype e finfo float16 float32 float64 floating "
    "generic iinfo inexact inf int8 int16 int32 int64 integer issubdtype nan newaxis pi "
    "promote_types uint8 uint16 uint32"
)
"""What CuPy takes over from NumPy as it is."""

NOT_IN_CUPY = (
    "einsum_path errstate frompyfunc geomspace geterr insert longdouble ndenumerate nditer object_ "
    "seterr spacing str_ unstack vecdot"
)
"""Names of NumPy that CuPy lacks: a caller has to find another way."""
