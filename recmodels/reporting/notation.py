"""How figures and names are written in Markdown and LaTeX."""

import pandas as pd

DECIMALS = 4
NOTHING = "–"
LAST_OF_LATIN = 0x17F  # of Unicode's Latin-1 Supplement and Latin Extended-A
_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--",
    "×": r"$\times$", "Δ": r"$\Delta$", "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$",
    "…": r"\ldots{}", **{sign: f"${sign}$" for sign in "<>|"},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def figure(value: float | None) -> str:
    """A metric with `DECIMALS`, without the leading 0; a dash for None."""
    return NOTHING if value is None else f"{value:.{DECIMALS}f}".removeprefix("0")


def signed(value: float) -> str:
    """A difference of metrics, with its sign."""
    return f"{'-' if value < 0 else '+'}{figure(abs(value))}"


def markdown_text(text: str) -> str:
    """A text that Markdown shows as it is, in a cell too; a line break becomes a space.

    Backslashes are escaped as well, lest one of the text escapes the escape of the pipe after it.
    """
    makes_link = "](" in text or text.count("[") != text.count("]")  # brackets in pairs are none, in a caption neither
    special = "\\|*<`[]" if makes_link else "\\|*<`"
    return "".join(f"\\{sign}" if sign in special else sign for sign in _line(text))


def latex_text(text: str) -> str:
    """A text that LaTeX shows as it is, in a cell too; a line break becomes a space."""
    line = _line(text)
    kept = "{}" if line.startswith(("[", "*")) else ""  # else the argument of the line end before it
    return kept + "".join(_TEX.get(sign, sign) for sign in line)


def engine_note(latex: str) -> str:
    """A comment for LaTeX with letters beyond Latin, which end pdflatex with an error; nothing for other LaTeX."""
    letters = sorted({sign for sign in latex if ord(sign) > LAST_OF_LATIN})
    shown = ", ".join(f"{sign} (U+{ord(sign):04X})" for sign in letters[:5]) + ", ..." * (len(letters) > 5)
    return f"% for xelatex or lualatex and a font that has them, because pdflatex lacks {shown}\n" if letters else ""


def _line(text: str) -> str:
    return " ".join(text.splitlines()).strip()


def markdown_table(frame: pd.DataFrame) -> str:
    """Cells of text as a table."""
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
