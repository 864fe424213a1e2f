"""The line of every key of a TOML text is found, whatever way the text is written."""

from __future__ import annotations

import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from gateway.toml_lines import key_lines, line_of

TEXT = '''# comment with [brackets] and a = 1
title = "x # not a comment"   # comment
"quoted.key" = 'lit\\'

[a]
b.c = 1
multi = """
[not a table]
also = "not" a key \\""" """
lit = \'\'\'
x = 1\'\'\'
list = [ # comment ]
  1, "two]",
  { k = 1, j = [2, 3] },
]
inline = { x = 1, y = { z = 2 } }

[a.d]
e = 2001-01-01T00:00:00Z

[[f]]
g = 1
[[f]]
g = 2
[[f.h]]
i = 1
[[f.h]]
i = 2
[f.j]
k = 1
["l m"."n"]
o = 1.5e3'''


def test_every_way_of_writing_a_key_is_found_at_its_line() -> None:
    lines = key_lines(TEXT)
    expected = {
        ("title",): 2,
        ("quoted.key",): 3,
        ("a",): 5,
        ("a", "b"): 6,
        ("a", "b", "c"): 6,
        ("a", "multi"): 7,
        ("a", "lit"): 10,
        ("a", "list"): 12,
        ("a", "list", 0): 13,
        ("a", "list", 1): 13,
        ("a", "list", 2): 14,
        ("a", "list", 2, "k"): 14,
        ("a", "list", 2, "j"): 14,
        ("a", "list", 2, "j", 1): 14,
        ("a", "inline"): 16,
        ("a", "inline", "y", "z"): 16,
        ("a", "d"): 18,
        ("a", "d", "e"): 19,
        ("f",): 21,
        ("f", 0): 21,
        ("f", 0, "g"): 22,
        ("f", 1): 23,
        ("f", 1, "g"): 24,
        ("f", 1, "h", 0): 25,
        ("f", 1, "h", 0, "i"): 26,
        ("f", 1, "h", 1): 27,
        ("f", 1, "h", 1, "i"): 28,
        ("f", 1, "j"): 29,
        ("f", 1, "j", "k"): 30,
        ("l m", "n"): 31,
        ("l m", "n", "o"): 32,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_what_is_not_in_the_text_is_found_at_the_nearest_thing_around_it() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("f", 1, "missing")) == 23
    assert line_of(lines, ("a", "inline", "missing")) == 16
    assert line_of(lines, ("missing", "too")) == 1
    assert line_of(lines, ()) == 1


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
leaves = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(names, trees, max_size=5))
def test_every_key_of_any_document_is_found(document: dict[str, object]) -> None:
    """Written out by tomlkit in its own style; found means: at a line that holds the key."""
    text = tomlkit.dumps(document)
    lines = key_lines(text)
    rows = text.split("\n")

    def look(path: tuple[str | int, ...], value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if '"' not in name and "\\" not in name:
                    assert name in rows[lines[(*path, name)] - 1]
                    look((*path, name), inner)

    look((), document)
