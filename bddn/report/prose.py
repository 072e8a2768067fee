"""Paragraphs and lists of a Methods text, which is plain Markdown, as HTML."""

from bddn.report.markup import Html, element, joined


def prose(text: str) -> Html:
    """Paragraphs, `- ` lists and `##` headings as HTML; the first heading, `#`, is left to the page.

    Parameters
    ----------
    text : str
        Blocks apart by empty lines; all else in it is text.
    """
    made = []
    for block in text.strip().split("\n\n"):
        if block.startswith("# "):
            continue
        if block.startswith("## "):
            made.append(element("h3", None, block[3:]))
        elif block.startswith("- "):
            made.append(element("ul", None, *(element("li", None, line[2:]) for line in block.splitlines())))
        else:
            made.append(element("p", None, block))
    return joined(made)
