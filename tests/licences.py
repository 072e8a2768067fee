"""Write the table of licences in docs/weights.md from the specs: `python tests/licences.py`."""

from pathlib import Path

from bddn.backbones.registry import load_specs
from bddn.backbones.weights.fetch import is_remote
from bddn.files.atomic import write_text

PAGE = Path(__file__).parent.parent / "docs" / "weights.md"
BEGIN, END = "<!-- licences -->\n", "<!-- end of licences -->\n"
TERMS = {  # where the text of a licence is
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "BSD-3-Clause": "https://opensource.org/license/bsd-3-clause",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "MIT": "https://opensource.org/license/mit",
}


def table() -> str:
    """The table in Markdown: the licence and the place of the weights of every spec."""
    lines = ["| spec | licence | weights | mirror |", "|---|---|---|---|"]
    for name, spec in load_specs().items():
        if spec.weights is not None and is_remote(spec):
            licence = f"[{spec.licence}]({TERMS[spec.licence]})" if spec.licence in TERMS else spec.licence
            lines.append(f"| {name} | {licence} | {_linked(spec.weights.place)} | {spec.weights.mirror or ''} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def _linked(place: str) -> str:
    if place.startswith("http"):
        return f"[{place.rpartition('/')[2]}]({place})"
    return f"[{place}](https://huggingface.co/{place})"


if __name__ == "__main__":
    write_text(PAGE, written(PAGE.read_text(encoding="utf-8")))
