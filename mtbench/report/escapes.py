"""Names and numbers as cells of Markdown and LaTeX tables: whatever a text holds, it is shown, not obeyed."""

from __future__ import annotations

import re

from mtbench.printable import one_line


def markdown(text: str) -> str:
    """A text as a cell of a table in GitHub's Markdown."""
    # An underscore between letters or digits is none of emphasis, and names are full of them.
    return re.sub(r"[\\`*\[\]<>&~$|]|(?<![^\W_])_|_(?![^\W_])", lambda found: "\\" + found[0], one_line(text))


def markdown_sentence(text: str) -> str:
    """A sentence of mtbench's own, in which names may stand: what is between backticks stays code."""
    pieces = one_line(text).split("`")
    paired = len(pieces) % 2  # else a name holds a backtick, and nothing is code
    marked = "`".join(p if i % 2 else markdown(p) for i, p in enumerate(pieces)) if paired else markdown(text)
    # What begins so would be a heading or a list within the line.
    return re.sub(r"^(\d*)([#+.)-])", r"\1\\\2", marked)


def latex(text: str) -> str:
    """A text as a cell of a LaTeX table, for pdflatex as well; other scripts than Latin and Greek need LuaLaTeX."""
    escaped = "".join(_LATEX.get(sign, sign) for sign in one_line(text))
    escaped = re.sub(r"-(?=-)", "-{}", escaped)  # two would become a dash
    escaped = re.sub(r"^([+-])(?=\d)", r"$\1$", escaped)
    # After the \\ of the row before, and after \midrule, these would begin an argument.
    return "{}" + escaped if escaped.lstrip()[:1] in ("[", "*") else escaped


_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
_SIGNS = {
    "±": "pm", "×": "times", "·": "cdot", "≤": "leq", "≥": "geq", "≠": "neq", "≈": "approx", "→": "rightarrow",
    "←": "leftarrow", "↔": "leftrightarrow", "∞": "infty", "∈": "in", "∑": "sum", "√": "surd",
}  # fmt: skip
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"$\\{name}$" for name, sign in (_GREEK | {name: sign for sign, name in _SIGNS.items()}).items()},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "−": "$-$",
    "…": r"\ldots{}",
}  # fmt: skip
