"""English and Chinese: the switch on every page, and the words that the engine itself adds."""

from __future__ import annotations

from typing import Any

WORDS = {
    "proved": (
        "Both sides were computed in float64: they agree to {error}. {twins} wrong versions of the formula were refused.",
        "等式两边均以 float64 计算，误差 {error}。公式的 {twins} 个错误变体均被识破。",
    ),
    "ledger": (
        "{equations} equations are proved. The largest error is {worst}; {twins} wrong twins are refused.",
        "共验证 {equations} 个公式，最大误差 {worst}；{twins} 个错误变体均被识破。",
    ),
    "ledger heads": ("equation|function|test|error|wrong twins", "公式|函数|测试|误差|错误变体"),
    "glossary heads": ("English|中文|meaning", "英文|中文|含义"),
    "source": ("{file}, line {line}", "{file}，第 {line} 行"),
    "notebook": ("Download this tutorial as a notebook", "下载本教程的 notebook"),
    "show code": ("Show the code", "显示代码"),
    "hide code": ("Hide the code", "隐藏代码"),
    "show": ("Show", "展开"),
    "hide": ("Hide", "收起"),
    "check": ("Check", "检查"),
    "stop": ("Stop", "停止"),
    "reset": ("Start again", "重新开始"),
    "terminal": ("In a terminal:", "在终端中："),
    "editor": ("Your code for exercise {id}", "练习 {id} 的代码"),
}


def word(key: str, language: str) -> str:
    """The wording in the language of the page."""
    return WORDS[key][language.startswith("zh")]


def switch(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Tell the template where the same page is in the other language."""
    chinese = app.config.language.startswith("zh")
    up = "../" * (page.count("/") + 1)
    context["other_language"] = "English" if chinese else "中文"
    context["other_language_code"] = "en" if chinese else "zh-CN"
    context["other_language_uri"] = f"{up}{'en' if chinese else 'zh'}/{page}.html"


def theme_words(app: Any, config: Any) -> None:
    """The words that other extensions print."""
    config.nb_code_prompt_show = word("show code", config.language)
    config.nb_code_prompt_hide = word("hide code", config.language)
    config.togglebutton_hint = word("show", config.language)
    config.togglebutton_hint_hide = word("hide", config.language)


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.connect("config-inited", theme_words, priority=100)  # before the extensions read them
    app.connect("html-page-context", switch)
    app.add_js_file("switch.js", loading_method="defer")
