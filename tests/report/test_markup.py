"""Text is escaped wherever it goes."""

from bddn.report.markup import Html, element, joined
from bddn.report.prose import prose

EVIL = "<b>\"'&</b>"


def test_text_and_attributes_are_escaped() -> None:
    made = element("td", {"title": EVIL, "hidden": True, "class": None, "open": False}, EVIL, element("i", None, "x"))
    assert made == ('<td title="&lt;b&gt;&quot;&#x27;&amp;&lt;/b&gt;" hidden>&lt;b&gt;"\'&amp;&lt;/b&gt;<i>x</i></td>')


def test_only_markup_is_taken_as_markup() -> None:
    assert joined([EVIL, Html("<i>")]) == "&lt;b&gt;\"'&amp;&lt;/b&gt;<i>"


def test_parts_of_drawings_end_themselves() -> None:
    assert element("circle", {"r": 1}) == '<circle r="1"/>'


def test_a_methods_text_becomes_paragraphs_and_lists() -> None:
    text = "# Methods\n\nWe did <it>.\n\n## References\n\n- A (1)\n- B (2)\n\nTerms.\n"
    assert prose(text) == (
        "<p>We did &lt;it&gt;.</p><h3>References</h3><ul><li>A (1)</li><li>B (2)</li></ul><p>Terms.</p>"
    )
