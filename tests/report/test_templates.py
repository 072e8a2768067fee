"""Templates: text is escaped wherever it goes."""

from bddn.figures.methods import Methods
from bddn.report.page import templates
from bddn.report.provenance import Files, Part
from bddn.report.tables import Table

EVIL = "<b>\"'&</b>"
SAFE = "&lt;b&gt;&#34;&#39;&amp;&lt;/b&gt;"


def made(name: str, *arguments: object) -> str:
    return str(getattr(templates().get_template("parts.html").module, name)(*arguments))


def test_text_and_attributes_are_escaped() -> None:
    pieces = [
        made("summary", [(EVIL, EVIL)]),
        made("names", [{"label": EVIL, "title": EVIL}]),
        made("tile", 0, EVIL, False),
        made("card", 0, EVIL, False),
        made("sortable", Table(EVIL, [EVIL], [[EVIL]])),
        made("methods", Methods(EVIL, (EVIL,), EVIL), EVIL, False),
        made("provenance", Part(EVIL, False, [EVIL, "b"], [(EVIL, [EVIL, "c"])])),
        made("files", Files([(EVIL, "a", EVIL)], [(EVIL, "b")]), EVIL, False),
    ]
    for piece in pieces:
        assert SAFE in piece
        assert '<b>"' not in piece
        assert "{#" not in piece
        assert "\n" not in piece


def test_a_table_marks_numbers_and_gaps() -> None:
    found = made("sortable", Table("<c>", ["A", "B"], [["x", 1.23456], ["y", None], ["<z>", float("nan")]]))
    assert '<td class="number" data-value="1.23456">1.235</td>' in found
    assert found.count('<td class="number">–</td>') == 2
    assert "&lt;c&gt;" in found
    assert "<z>" not in found


def test_methods_say_the_same_on_the_page_and_in_markdown() -> None:
    words = Methods("We did <it>.", ("A (1)", "B (2)"), "Terms.")
    assert words.markdown() == "# Methods\n\nWe did <it>.\n\n## References\n\n- A (1)\n- B (2)\n\nTerms.\n"
    assert made("methods", words, "run", True) == (
        "<p>We did &lt;it&gt;.</p><h3>References</h3><ul><li>A (1)</li><li>B (2)</li></ul><p>Terms.</p>"
    )


def test_where_runs_differ_it_is_marked() -> None:
    found = made("provenance", Part("Data", True, ["a", "b"], [("same", ["1", "1"]), ("other", ["x", "X"])]))
    assert found.startswith("<details open>")
    assert '<tr><th scope="row">same</th>' in found
    assert '<tr class="differ"><th scope="row">other<span class="differs"> differs</span></th>' in found
