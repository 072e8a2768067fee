"""Blocks of code in Markdown. Their first line may have attributes after the language, of which readers see none:

```bash why="needs the data of the challenge"     it is not run by the tests, for this reason
```yaml file=cnn.yaml                             the content of a file that later blocks use
"""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r'^```(?P<language>\w*)(?P<attributes>(?: \w+=(?:"[^"\n]*"|\S+))*)\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)
ATTRIBUTE = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True)
class Block:
    """A block of code: its language or '', the name of its file or '', why it is not run or '', and its text."""

    language: str
    file: str
    why: str
    text: str


def attributes(words: str) -> dict[str, str]:
    """The attributes of a block by name."""
    return {name: quoted or bare for name, quoted, bare in ATTRIBUTE.findall(words)}


def blocks(page: Path) -> list[Block]:
    """All blocks of a page."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        given = attributes(match["attributes"])
        found.append(Block(match["language"], given.get("file", ""), given.get("why", ""), match["text"]))
    return found
