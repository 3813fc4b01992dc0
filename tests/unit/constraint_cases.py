"""For every kind of constraint: settings, texts that keep it, and texts that do not."""

from __future__ import annotations

from typing import Any

Case = tuple[dict[str, Any], list[str], list[str]]

CASES: dict[str, list[Case]] = {
    "words": [
        ({"at_least": 3}, ["one two three", "a-b c", "don't go"], ["one two", "…", "one"]),
        ({"at_most": 3}, ["", "one two three", "one, two: three!"], ["one two three four", "it's not so"]),
        ({"exactly": 2}, ["so_be it", "3.5", "naïve été", "两 个"], ["one", "a b c"]),
        ({"at_least": 2, "at_most": 3}, ["a b", "a b c"], ["a", "a b c d"]),
    ],
    "sentences": [
        (
            {"exactly": 1},
            ["Hello", "Dr. Smith came.", "It costs 3.50 now.", "J. Smith wrote it.", "Wait... what?"],
            ["", "One. Two.", "Really? Yes!", "..."],
        ),
        (
            {"exactly": 2},
            [
                "It rains. It pours.",
                '"Go home." So they went',
                "in lower case. like this.",
                "See e.g. this one. And that.",
                "My answer is no. It is in vol. 3 of No. 7.",
                "Bell Inc. sells bells to Mr. Smith. He pays.",
                "Eggs, milk, etc. Then bread.",
                "雨です。行きません。",
                "So...\n\nNow?!",
            ],
            ["It rains", "One. Two. Three.", "Mr. and Mrs. Bell came at 5 p.m. today."],
        ),
        (
            {"exactly": 3},
            ["1. Wash it.\n2. Dry it.\n3. Fold it.", '"Go!" he said. So they went', "It was I. She saw. I fled."],
            ["1. Wash it.\n2. Dry it."],
        ),
        ({"at_most": 2}, ["", "a. b."], ["a thing. b thing. c thing."]),
    ],
    "sentence_words": [
        ({"at_most": 3}, ["It rains. We stay home.", "Go!"], ["It rains. We all stay home.", "", "..."]),
        ({"at_least": 2, "at_most": 4}, ["It rains. We stay at home."], ["Rain. We stay home."]),
    ],
    "paragraphs": [
        ({"exactly": 2}, ["one\n\ntwo", "\n\none\nstill one\n \n\n\ntwo\n"], ["one", "one\ntwo", "a\n\nb\n\nc", ""]),
        (
            {"exactly": 2, "divider": "***"},
            ["one *** two", "***\none\n***\ntwo\n***", "one\n\nstill\n***\ntwo"],
            ["one\n\ntwo", "one", "one *** *** two", "a***b***c", ""],
        ),
        ({"at_least": 2, "divider": "***"}, ["a***b***c"], ["a", "a *** *** b"]),
    ],
    "paragraph_first_word": [
        (
            {"paragraph": 2, "word": "two"},
            ["one\n\ntwo things", "one\n\nTwo, three", 'a\n\n"two" is', "a\n\n'two"],
            ["two", "one\n\nthree two", "one\ntwo", "one\n\ntwofold", ""],
        ),
        (
            {"paragraph": 1, "word": "One", "paragraphs": 2},
            ["one\n\ntwo", "one's\n\ntwo"],
            ["one", "one\n\ntwo\n\nthree", "two\n\none"],
        ),
        ({"paragraph": 2, "word": "two", "paragraphs": 2}, ["one\n\ntwo\n\n"], ["one\n\n\n\ntwo"]),
    ],
    "lines": [
        ({"exactly": 2}, ["one\ntwo", "one\n\n  \ntwo\n"], ["one", "one\ntwo\nthree", ""]),
        ({"at_least": 1}, [" a "], ["", " \n\t\n"]),
    ],
    "characters": [
        ({"at_most": 5}, ["", "hello", "  hello \n", "élève"], ["hello!", "a     b"]),
        ({"at_least": 4, "at_most": 5}, ["four", "hello"], ["one", "longer"]),
    ],
    "keywords": [
        ({"words": ["cat", "dog"]}, ["A cat and a Dog", "cats, dogs", "CATDOG"], ["a cat", "a dog", ""]),
        ({"words": ["c++"]}, ["in C++ it is"], ["in C it is", "ccc"]),
        ({"words": ["cat"], "whole_words": True}, ["a cat.", "cat"], ["cats", "concat", "cat_1"]),
    ],
    "banned_words": [
        ({"words": ["cat", "dog"]}, ["cats and dogs", "", "concat"], ["a Cat", "no dog!", "cat"]),
        ({"words": ["a.b"]}, ["axb"], ["an a.b here"]),
        ({"words": ["c++"]}, ["c", "c+", "xc++"], ["in C++ it"]),
    ],
    "keyword_count": [
        ({"word": "cat", "at_least": 2}, ["cat Cat", "catcat", "cats concat"], ["cat", "c at c at", ""]),
        ({"word": "cat ", "at_most": 1}, ["", "cat"], ["cat, cat"]),
        ({"word": "cat", "exactly": 1, "whole_words": True}, ["cat cats"], ["cat cat", "cats"]),
        ({"word": "aa", "exactly": 2}, ["aaaa", "aaaaa"], ["aaa", "aaaaaa"]),
    ],
    "letter_count": [
        ({"letter": "a", "at_least": 3}, ["banana", "Aaa", "A man, a"], ["band", "aa", ""]),
        ({"letter": "E", "at_most": 1}, ["one", ""], ["eve", "Ee"]),
        ({"letter": "!", "exactly": 2}, ["Oh!!", "! and !"], ["Oh!", "!!!"]),
    ],
    "banned_characters": [
        ({"characters": ";:"}, ["a, b", ""], ["a; b", "a: b"]),
        ({"characters": "e"}, ["a nap", "E"], ["one"]),
    ],
    "no_commas": [({}, ["no comma here", "", "a; b", "一、二"], ["one, two", ","])],
    "starts_with": [
        ({"phrase": "I think"}, ["I think so", '  "i THINK not"', "I thinking"], ["Well, I think", "", "I  think"]),
    ],
    "ends_with": [
        ({"phrase": "The end."}, ["So. The end.", "the end.\n", 'He said "The END."'], ["The end", "The end. Bye", ""]),
    ],
    "repeat_prompt": [
        (
            {"text": "Name a fish."},
            ["Name a fish. Cod.", "\n name a FISH.\nCod"],
            ["Cod.", "Name a  fish.", '"Name a fish.', ""],
        ),
    ],
    "choice": [
        ({"options": ["Yes.", "No."]}, ["Yes.", "I say No. Never."], ["yes.", "No", ""]),
        ({"options": ["Yes.", "No."], "only": True}, ["Yes.", " No.\n"], ["Yes. No.", "I say No."]),
    ],
    "regex": [
        ({"pattern": r"^\d{3}-\d{4}$"}, ["555-1234"], ["555-123", "x 555-1234", "555-1234\nx", ""]),
        ({"pattern": "(?i)colou?r"}, ["the Color", "COLOUR"], ["colr", ""]),
        ({"pattern": "(?m)^end$"}, ["a\nend", "end\nb"], ["the end"]),
    ],
    "bullets": [
        (
            {"exactly": 2},
            ["* a\n* b", "- a\n  - b", "text\n*a\n\n-b\nmore", "-\n--"],
            ["* a", "** a\n** b", "a * b\n* c", "*\n*a", "1. a\n2. b", ""],
        ),
        ({"at_least": 3}, ["- a\n- b\n* c\n* d"], ["- a\n- b"]),
    ],
    "numbered_items": [
        (
            {"exactly": 2},
            ["1. a\n2. b", "So:\n 1) a\n 2) b\nDone."],
            ["1. a", "1. a\n3. b", "2. a\n3. b", "1. a\n1. b", "1.a\n2.b", "1. a\n2. b\n3. c", ""],
        ),
        ({"at_least": 1}, ["1. a", "1. a\n2. b\n3. c"], ["- a", "0. a", "", "1. "]),
    ],
    "highlights": [
        (
            {"at_least": 2},
            ["*a* and *b*", "**bold**\n*b* x", "* one* two*three*"],
            ["*a*", "**", "* *\n* *", "*a\nb* *", ""],
        ),
        ({"exactly": 1}, ["only *this* one", "**bold**"], ["none", "*a* *b*"]),
    ],
    "placeholders": [
        (
            {"at_least": 2},
            ["[name], [address]", "[a][b]", "[] []", "[x [y] [z]"],
            ["[name]", "[a", "a]b[", "[a\nb] [c]", ""],
        ),
        ({"exactly": 1}, ["[[a]]", "see [1]"], ["[a] [b]", "none"]),
    ],
    "sections": [
        (
            {"heading": "Section", "at_least": 2},
            ["Section 1\na\nSection 2\nb", "Section1Section2", "The Section 1, Section 9"],
            ["Section 1\na", "SECTION 1\nSECTION 2", "Section one, Section two", ""],
        ),
        ({"heading": "PART", "exactly": 1}, ["PART 1\nx"], ["Part 1", "PART 1 PART 2"]),
    ],
    "headings": [
        ({"exactly": 2}, ["# A\ntext\n## B", "   ###### A\n# B"], ["# A", "#A\n#B", "####### A\n# B", "# \n# B", ""]),
        ({"at_most": 0}, ["no heading #1", ""], ["# one"]),
    ],
    "code_blocks": [
        (
            {"exactly": 1},
            ["```\nx\n```", "Do:\n```python\nx\n```\nDone."],
            ["```\nx", "x", "```\na\n```\n```\nb\n```", ""],
        ),
        (
            {"exactly": 1, "language": "Python"},
            ["```python\nx\n```", "```python\n```\n```js\n```"],
            ["```\nx\n```", "```py\nx\n```"],
        ),
    ],
    "title": [
        (
            {},
            ["<<Joy>>\nA poem", "A <<title here>> inside", "<<< a >>>"],
            ["<Joy>", "<<>>", "<<  >>", "<<a\nb>>", ">>a<<", "<<<>>>", "", "<<a"],
        ),
    ],
    "json": [
        (
            {},
            ['{"a": 1}', " [1, 2]\n", '```json\n{"a": []}\n```', "```\n3\n```", '"text"', "null", "9" * 5000],
            ["{'a': 1}", 'Here: {"a": 1}', '{"a": 1} done', "{", "", "```json\n```", "[" * 100_000],
        ),
        ({"keys": ["a", "b"]}, ['{"b": 1, "a": 2, "c": 3}'], ['{"a": 1}', '["a", "b"]', "{}", "1"]),
    ],
    "postscript": [
        ({}, ["Bye.\nP.S. More", "bye p.s. more", "P. S. so"], ["PS more", "P.P.S more", "postscript", ""]),
        ({"marker": "P.P.S"}, ["P.P.S. more", "p. p. s"], ["P.S. more", ""]),
        ({"marker": "N.B."}, ["see n.b. this"], ["P.S. this", "NXBX"]),
    ],
    "two_responses": [
        (
            {},
            ["one\n******\ntwo", "******\none ****** two\n******"],
            [
                "one",
                "one ****** one",
                "one ****** \n one\n",
                "a ****** b ****** c",
                "a ****** ****** b",
                "a *** b",
                "******",
                "",
            ],
        ),
    ],
    "quoted": [({}, ['"all of it"', ' "so"\n', '""'], ['"', 'a "word"', '"a" b', "'a'", "“a”", ""])],
    "language": [
        (
            {"language": "en"},
            ["The cat is on the mat and it sleeps.", "OK!", "42", "Cat, dog."],
            [
                "Die Katze liegt auf der Matte und schläft.",
                "Кошка спит на коврике.",
                "lorem ipsum dolor amet consectetur elit sed eiusmod",
            ],
        ),
        (
            {"language": "zh-CN"},
            ["我喜欢读书,因为书很有意思。"],
            ["本が好きです。とても面白いから。", "I like to read books."],
        ),
        ({"language": "hi"}, ["यह किताब बहुत अच्छी है।"], ["हे पुस्तक खूप चांगले आहे आणि मी ते वाचतो."]),
    ],
    "script": [
        ({"script": "cyrillic"}, ["Привет, мир! 123", "42", ""], ["Привет, world", "hello"]),
        ({"script": "Latin"}, ["Hello, café", "Łódź"], ["Γειά", "Hello мир"]),
    ],
    "uppercase": [
        ({}, ["ALL OF IT, 42!", "ÄÖ", "A"], ["Not all", "aLL", "42", ""]),
        (
            {"language": "en"},
            ["THE CAT IS ON THE MAT AND IT SLEEPS."],
            ["DIE KATZE LIEGT AUF DER MATTE UND SIE IST MÜDE.", "The cat"],
        ),
    ],
    "lowercase": [
        ({}, ["all of it, 42!", "äö"], ["Not", "aLL", "42", ""]),
        (
            {"language": "en"},
            ["the cat is on the mat and it sleeps."],
            ["die katze liegt auf der matte und sie ist müde.", "The cat"],
        ),
    ],
    "title_case": [
        (
            {},
            ["The Old Man And The Sea", "Well-known Facts, 2nd Ed.", "ALL CAPS"],
            ["The old Man", "the Old", "", "42"],
        ),
    ],
    "capital_words": [
        ({"at_least": 2}, ["NASA and ESA", "A B", "WELL-KNOWN and U.S."], ["NASA and Esa", "42 43", "WELL-KNOWN", ""]),
        ({"at_most": 1}, ["", "The NASA", "DON'T go", "iPhone 4S"], ["NASA ESA"]),
    ],
}

REFERENCE: list[tuple[str, dict[str, Any], str, bool, bool]] = [
    # instruction, settings, answer, kept strictly, kept loosely
    ("keywords:existence", {"keywords": ["sun", "rain"]}, "Sunny, then raining.", True, True),
    ("keywords:existence", {"keywords": ["sun", "rain"]}, "Sunny all day.", False, False),
    ("keywords:existence", {"keywords": ["sun"]}, "The s*u*n.", False, True),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "at least"}, "Sun, sunny", True, True),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, "Sun, sunny", False, False),
    ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, "Sun\nsun\nrain", False, True),
    ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "It is sunny.", True, True),
    ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "The SUN.", False, False),
    ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "Sun it is:\nRain.", False, True),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "Qq", True, True),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 1, "let_relation": "less than"}, "q", False, False),
    ("language:response_language", {"language": "de"}, "Das ist nicht mein Hund.", True, True),
    ("language:response_language", {"language": "de"}, "This is not my dog.", False, False),
    ("language:response_language", {"language": "de"}, "Here is what you and I want:\nDas ist sehr gut.", False, True),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        "One is. Two are.",
        True,
        True,
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "One is. Two are.",
        False,
        False,
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", True, True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n\ntwo", False, False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "Sure!\n***\none", False, True),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", True, True),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two three", False, False),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        "Of course I can:\ntwo words",
        False,
        True,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
        "one\n\nTwo",
        True,
        True,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "two"},
        "one\n\nTwo",
        False,
        False,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "two"},
        "one\n\nTwo",
        False,
        True,
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [town]", True, True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name]", False, False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi\np.s. more", True, True),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Hi\nP.S. more", False, False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi **P**.S. more", False, True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", True, True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a", False, False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n* c", False, True),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", True, True),
    ("detectable_format:constrained_response", {}, "My answer is perhaps.", False, False),
    ("detectable_format:constrained_response", {}, "My answer is **no**.", False, True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "so *this* is", True, True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "so *this* is", False, False),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1 a Section 2 b",
        True,
        True,
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 1},
        "Section 1 a",
        False,
        False,
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', True, True),
    ("detectable_format:json_format", {}, "{a: 1}", False, False),
    ("detectable_format:json_format", {}, 'Here it is:\n{"a": 1}', False, True),
    ("detectable_format:title", {}, "<<Rain>>\nIt rains.", True, True),
    ("detectable_format:title", {}, "# Rain\nIt rains.", False, False),
    ("combination:two_responses", {}, "one\n******\ntwo", True, True),
    ("combination:two_responses", {}, "one\n***\ntwo", False, False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why rain?"}, "why rain? Because.", True, True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why rain?"}, "Because.", False, False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why rain?"}, "Sure.\nWhy rain? Because.", False, True),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, 'So. "is that all?"', True, True),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, "Is that all? Yes.", False, False),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, "Is that all?\nYes.", False, True),
    ("startend:quotation", {}, '"Rain."', True, True),
    ("startend:quotation", {}, 'It says "Rain."', False, False),
    ("startend:quotation", {}, 'It says:\n"Rain."', False, True),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "GO AWAY now",
        True,
        True,
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "GO AWAY now",
        False,
        False,
    ),
    ("change_case:english_capital", {}, "THE RAIN IS IN SPAIN.", True, True),
    ("change_case:english_capital", {}, "The rain is in Spain.", False, False),
    ("change_case:english_capital", {}, "Sure:\nTHE RAIN IS IN SPAIN.", False, True),
    ("change_case:english_lowercase", {}, "the rain is in spain.", True, True),
    ("change_case:english_lowercase", {}, "The rain is in Spain.", False, False),
    ("punctuation:no_comma", {}, "rain and sun", True, True),
    ("punctuation:no_comma", {}, "rain, sun", False, False),
    ("punctuation:no_comma", {}, "rain\nsun, perhaps", False, True),
    ("punctuation:no_comma", {}, " \n ", False, False),
]
