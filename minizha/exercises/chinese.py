"""The lines of a verdict in Chinese: each wording once, with what varies in it as ``{slots}``.

A slot in capitals is a wording itself and is translated; any other is copied: a name, a number, a line of
code, a message of Python.
"""

from __future__ import annotations

import re
from functools import lru_cache

WORDINGS = {
    # the lines of findings, checks, code and judging
    "{name}_backward is right: {n} derivatives agree with the {ORACLE}": (
        "{name}_backward 正确：{n} 个导数与{ORACLE}一致"
    ),
    "complex step": "复步法",
    "differences": "有限差分",
    "{name} is right: the complex step crosses it": "{name} 正确：复步法可以通过",
    "{WHAT} is right": "{WHAT}正确",
    "what {name} returns": "{name} 的返回值",
    "the y of {name}": "{name} 的 y",
    "the complex step of {name} by {x}": "用复步法求 {name} 对 {x} 的导数",
    "the gradient of {name}": "{name} 的梯度",
    "{WHAT} is wrong": "{WHAT}错误",
    "{WHAT} is wrong: {HINT}": "{WHAT}错误：{HINT}",
    "{WHAT} can't be decided: {HINT}": "{WHAT}无法判定：{HINT}",
    "{WHAT}: {n} of {m} entries are wrong": "{WHAT}：{m} 个元素中有 {n} 个是错的",
    "{WHAT}: {n} of {m} entries are wrong: {HINT}": "{WHAT}：{m} 个元素中有 {n} 个是错的：{HINT}",
    "{WHAT}: expected real numbers, found {dtype}": "{WHAT}：应为实数，实为 {dtype}",
    "{WHAT}: {SHAPES}": "{WHAT}：{SHAPES}",
    "    at {place}: expected {e}, found {f}": "    在 {place} 处：应为 {e}，实为 {f}",
    "    along a random direction: expected {e}, found {f}": "    沿一个随机方向：应为 {e}，实为 {f}",
    "{name}: expected a pair (y, cache), found {type}": "{name}：应返回二元组 (y, cache)，实为 {type}",
    "expected a function {name}, found none": "应有函数 {name}，没有找到",
    "expected a function {name}, found {type}": "应有函数 {name}，{name} 却是 {type}",
    "a complex number does not pass: {ERROR}": "复数无法通过：{ERROR}",
    "the code raised {error}, at line {n}: `{line}`": "代码抛出 {error}，在第 {n} 行：`{line}`",
    "the code raised {error}": "代码抛出 {error}",
    "{name} raised {error}, at line {n}: `{line}`": "{name} 抛出 {error}，在第 {n} 行：`{line}`",
    "{name} raised {error}": "{name} 抛出 {error}",
    "{kind}Error: {message}, at line {n}: `{line}`": "{kind}Error: {message}，在第 {n} 行：`{line}`",
    "{kind}Error: {message}, at line {n}": "{kind}Error: {message}，在第 {n} 行",
    "your code printed:": "你的代码打印了：",
    "remark: {REMARK}": "备注：{REMARK}",
    "{kind}Warning: {message}": "{kind}Warning: {message}",
    "y has no imaginary part although x has one: something on the way drops it": (
        "x 有虚部，y 却没有：途中某处把虚部丢掉了"
    ),
    # check_pair: how a gradient is wrong
    "{n} of {m} entries of {name}'s gradient are wrong": "{name} 的梯度：{m} 个元素中有 {n} 个是错的",
    "{n} of {m} entries of {name}'s gradient are wrong: {HINT}": (
        "{name} 的梯度：{m} 个元素中有 {n} 个是错的：{HINT}"
    ),
    "of {n} entries of {name}'s gradient none is wrong by 1e-9": (
        "{name} 的梯度：检验过的 {n} 个元素中，误差都不超过 1e-9"
    ),
    "expected an array of shape {s}, found shape {t}: {HINT}": "应为形状 {s} 的数组，实为形状 {t}：{HINT}",
    "expected an array of shape {s}, found shape {t}": "应为形状 {s} 的数组，实为形状 {t}",
    "expected an array of shape {s}, found {type}": "应为形状 {s} 的数组，实为 {type}",
    "the gradient is {dtype}, but real arguments have real gradients": (
        "梯度的类型是 {dtype}，但实数参数的梯度应是实数"
    ),
    "backward: expected {n} gradients, one for each float argument of forward ({names}), in their "
    "order, found {COUNT}": (
        "反向函数应按顺序返回 {n} 个梯度，前向函数的每个浮点数组参数（{names}）各一个；实际返回了{COUNT}"
    ),
    "a dict": "字典",
    "forward: y: expected floats, found {dtype}, which has no derivative": (
        "前向函数的 y 应为浮点数，实为 {dtype}，没有导数"
    ),
    "forward: expected a pair (y, cache), y an array, found {type}": (
        "前向函数应返回二元组 (y, cache)，其中 y 是数组；实为 {type}"
    ),
    # how it is related to the right one
    "all are 0": "全部为 0",
    "all should be 0": "应全部为 0",
    "it does not depend on dy": "结果与上游梯度无关（上游梯度没有用上）",
    "it is dy itself: the derivative of forward, or a part of it, is missing": (
        "它就是上游梯度 dy：缺少前向函数的导数，或导数的一部分"
    ),
    "it is the gradient of {ARGUMENT}": "它是{ARGUMENT}的梯度",
    "it is {FACTOR} what it should be": "它是正确值的{FACTOR}",
    "it is {FACTOR} what it should be: its sign is wrong": "它是正确值的{FACTOR}：符号反了",
    "it is {FACTOR} what it should be: a mean in place of a sum? {n} is {LENGTH}": (
        "它是正确值的{FACTOR}：该求和的地方取了均值？{n} 是{LENGTH}"
    ),
    "it is {FACTOR} what it should be: a sum in place of a mean? {n} is {LENGTH}": (
        "它是正确值的{FACTOR}：该取均值的地方求了和？{n} 是{LENGTH}"
    ),
    "it is {FACTOR} what it should be, {q}: a scale is missing or double? {n} is {LENGTH}": (
        "它是正确值的{FACTOR}，即 {q}：缩放系数漏了，或乘了两次？{n} 是{LENGTH}"
    ),
    "{c} times": " {c} 倍",
    "{c} times ({q})": " {c} 倍（{q}）",
    "the length of axis {k}": "轴 {k} 的长度",
    "the number of entries": "元素总数",
    "it is transposed": "它被转置了",
    "its numbers are right but in the order of other axes: transpose, don't reshape": (
        "数值都对，但轴的顺序不对：应该用转置，而不是 reshape"
    ),
    "its numbers are right, its shape is not": "数值都对，形状不对",
    "it is not summed over axis {k}": "没有沿轴 {k} 求和",
    "it is not summed over axes {k}": "没有沿轴 {k} 求和",
    "it is summed over axis {k}, which it should keep": "沿轴 {k} 求了和，而这个轴应当保留",
    "it is summed over axes {k}, which it should keep": "沿轴 {k} 求了和，而这些轴应当保留",
    "only the diagonal of the Jacobian is there: how does each x act on the other y?": (
        "只算了雅可比矩阵的对角元：每个输入 x 怎样影响其他的输出 y？"
    ),
    "subtracting its mean over axis {k} would make it right": "减去它沿轴 {k} 的均值，它就对了",
    "each row along axis {k} is off by {TERM}: such a term is missing, is too much, or has a wrong "
    "factor": (
        "每一行（沿轴 {k}）的误差都是{TERM}：可能漏了或多了这样一项，也可能它的系数不对"
    ),
    "each row along axis {k} is off by {TERM} and {OTHER}: such terms are missing, are too much, or "
    "have wrong factors": (
        "每一行（沿轴 {k}）的误差都是{TERM}加上{OTHER}：可能漏了或多了这样的项，也可能它们的系数不对"
    ),
    "a constant": "一个常数",
    "a multiple of x − mean(x)": " x − mean(x) 的某个倍数",
    "a multiple of y": "输出 y 的某个倍数",
    "a multiple of x": "输入 x 的某个倍数",
    "each row along axis {k} is off by a factor of its own": (
        "每一行（沿轴 {k}）都差一个因子，各行的因子不同"
    ),
    "only at {places} of axis {k}": "只在轴 {k} 的 {places} 处",
    "only these: {places} and {n} more": "只有这些：{places}，以及另外 {n} 个",
    "only these: {places}": "只有这些：{places}",
    "it is what it would be if {ARGUMENT} were all 1 (is it left out?)": (
        "假如{ARGUMENT}全为 1，它就对了（是不是漏了它？）"
    ),
    "it is what it would be if {ARGUMENT} were transposed": "假如{ARGUMENT}被转置，它就对了",
    "argument {k} ({name})": "参数 {name} ",
    "argument {k}": "第 {k} 个参数（从 0 数起）",
    # check_pair: why a gradient can't be decided
    "forward is random: called twice with the same arguments, it gives another y. Draw the random "
    "numbers outside and pass them as an argument": (
        "前向函数是随机的：用同样的参数调用两次，得到不同的 y。请在函数外面产生随机数，再作为参数传入"
    ),
    "forward's y, or its derivative, is not finite here": "前向函数的 y 或它的导数在这里不是有限的数",
    "backward computes in float32, and is right to {e}: compute in float64": (
        "反向函数用 float32 计算，精确到 {e}：请用 float64 计算"
    ),
    "differences tell no more than {e} here": "有限差分在这里的精度只有 {e}",
    "forward computes in less than float64 inside (its y is uneven by {e}): backward agrees as far as "
    "that can tell; compute in float64": (
        "前向函数内部的精度低于 float64（y 有 {e} 的起伏）：在这个精度内反向函数是一致的；请用 float64 计算"
    ),
    "forward has a kink at {PLACES}, where its derivatives from both sides differ and backward may take "
    "either; the other {n} entries are right. Move x a little": (
        "前向函数在 {PLACES} 处有尖点，两侧的导数不同，反向函数取哪一个都可以；其余 {n} 个元素正确。"
        "请把 x 挪动一点"
    ),
    "this point": "这一点",
    "[{places}]": "[{places}]",
    # check_pair: remarks
    "{WHY}, so that it was checked by differences, to about {e}, and not by the complex step": (
        "{WHY}，所以用有限差分检验，精度约 {e}，而不是用复步法"
    ),
    "{WHY}, so that it was checked by differences, to about {e}, and not by the complex step; {ADVICE}": (
        "{WHY}，所以用有限差分检验，精度约 {e}，而不是用复步法；{ADVICE}"
    ),
    "forward takes no complex numbers ({ERROR})": "前向函数不接受复数（{ERROR}）",
    "{kind}Error, at line {n} of {file}: `{line}`": "{kind}Error，在 {file} 第 {n} 行：`{line}`",
    "forward drops imaginary parts": "前向函数丢掉了虚部",
    "forward writes into {ARGUMENT}; it was given a copy": "前向函数改写了{ARGUMENT}的值；它得到的是副本",
    "backward writes into dy; it was given a copy": "反向函数改写了 dy；它得到的是副本",
    "backward writes into its cache; a second call with it would go wrong": (
        "反向函数改写了缓存；用同一缓存再调用一次就会出错"
    ),
    "argument {k} is {dtype}; forward was given it in float64": (
        "第 {k} 个参数的类型是 {dtype}；传给前向函数的是它的 float64 版本"
    ),
    "{ONE}; {MORE}": "{ONE}；{MORE}",
    "{f} drops imaginary parts: {ADVICE}": "{f} 会丢掉虚部：{ADVICE}",
    "{f} takes no complex numbers: {ADVICE}": "{f} 不接受复数：{ADVICE}",
    "minizha.ops.gelu has normal_cdf": "可用 minizha.ops.gelu 中的 normal_cdf",
    "write the variance as a product, {code}": "把方差写成乘积，{code}",
    "write it as a product, {code}": "写成乘积，{code}",
    "write {code}": "改写为 {code}",
    "leave it out": "去掉即可",
    "a buffer of np.zeros is real: give it the dtype of x": (
        "np.zeros 建的缓冲区是实数：dtype 应与 x 的相同"
    ),
    "out= needs an array of the dtype of x": "out= 的数组的 dtype 应与 x 的相同",
    "{n}": " {n} 个",
}  # fmt: skip
"""{English: Chinese}, tried in this order."""

SLOTS = {"x": r"\w+", "name": r"\w+|argument \d+", "n": r"\d+", "m": r"\d+", "k": r"\d+(?:, \d+)*"}
"""What these slots stand for, as patterns; the others stand for any text."""


def in_chinese(line: str) -> str:
    """A line of a verdict in Chinese; where a wording is unknown, as it is."""
    return translated(line) or line


def translated(line: str) -> str | None:
    """The same; None where a wording is unknown."""
    for pattern, chinese in _patterns():
        found = pattern.fullmatch(line)
        if found is None:
            continue
        slots = {n: translated(t) if n.isupper() else t for n, t in found.groupdict().items()}
        if None not in slots.values():
            return chinese.format(**slots)
    return None


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(english), chinese) for english, chinese in WORDINGS.items()]


def _pattern(english: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", english)
    slots = [f"(?P<{name}>{SLOTS.get(name, '.+?')})" for name in parts[1::2]]
    literal = [re.escape(part) for part in parts[::2]]
    return re.compile("".join(a + b for a, b in zip(literal, [*slots, ""], strict=True)), re.DOTALL)
