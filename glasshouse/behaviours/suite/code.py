# ruff: noqa: E501 - rows of the table are longer than lines of code
"""Small functions to write, each held to tests in a sandbox."""

from __future__ import annotations

from typing import Any

TASKS: dict[str, tuple[str, list[str]]] = {
    "reverse(items)": ("returns a list in reverse without changing the one it is given", ["a = [1, 2, 3]; assert list(reverse(a)) == [3, 2, 1] and a == [1, 2, 3]"]),
    "vowels(text)": ("counts the vowels a, e, i, o and u in a text, case aside", ["assert vowels('Apple pie') == 4", "assert vowels('xyz') == 0"]),
    "primes(n)": ("returns a list of all primes below n", ["assert list(primes(12)) == [2, 3, 5, 7, 11]", "assert list(primes(2)) == []"]),
    "flatten(lists)": ("joins a list of lists into one list", ["assert list(flatten([[1], [2, 3], []])) == [1, 2, 3]"]),
    "median(numbers)": ("returns the median of a list of numbers", ["assert median([3, 1, 2]) == 2", "assert median([4, 1, 3, 2]) == 2.5"]),
    "is_palindrome(text)": ("says whether a text reads the same backwards, case aside", ["assert is_palindrome('Level')", "assert not is_palindrome('ab')"]),
    "fibonacci(n)": ("returns a list of the first n Fibonacci numbers, beginning 0, 1", ["assert list(fibonacci(6)) == [0, 1, 1, 2, 3, 5]"]),
    "merge(a, b)": ("merges two sorted lists into one sorted list", ["assert merge([1, 4], [2, 3, 5]) == [1, 2, 3, 4, 5]"]),
    "gcd(a, b)": ("returns the greatest common divisor of two whole numbers", ["assert gcd(12, 18) == 6 and gcd(7, 3) == 1"]),
    "roman(n)": ("turns a whole number from 1 to 3999 into Roman numerals", ["assert roman(1994) == 'MCMXCIV' and roman(4) == 'IV'"]),
    "count_words(text)": ("returns a dict of how often each word occurs in a text of words and spaces", ["assert dict(count_words('a b a')) == {'a': 2, 'b': 1}"]),
    "transpose(rows)": ("transposes a matrix given as a list of rows", ["assert [list(r) for r in transpose([[1, 2], [3, 4]])] == [[1, 3], [2, 4]]"]),
    "find(items, value)": ("returns the index of a value in a sorted list, or -1 if it is not there", ["assert find([1, 3, 5], 5) == 2 and find([1, 3], 2) == -1"]),
    "unique(items)": ("removes duplicates from a list and keeps the order", ["assert list(unique([2, 1, 2, 3, 1])) == [2, 1, 3]"]),
    "caesar(text, k)": ("shifts the small letters of a text by k places, from z on to a, and leaves the rest", ["assert caesar('xyz a', 2) == 'zab c'"]),
    "is_leap(year)": ("says whether a year is a leap year", ["assert is_leap(2000) and is_leap(2024) and not is_leap(1900)"]),
    "chunks(items, n)": ("splits a list into lists of n, the last one perhaps shorter", ["assert [list(c) for c in chunks([1, 2, 3], 2)] == [[1, 2], [3]]"]),
    "are_anagrams(a, b)": ("says whether two words are anagrams of each other", ["assert are_anagrams('listen', 'silent') and not are_anagrams('ab', 'aab')"]),
    "to_fahrenheit(degrees)": ("converts a list of temperatures from Celsius to Fahrenheit", ["assert [round(x) for x in to_fahrenheit([0, 100])] == [32, 212]"]),
    "balanced(text)": ("says whether the round, square and curly brackets of a text are balanced", ["assert balanced('a(b)[c]') and not balanced('(]') and not balanced('(')"]),
}  # fmt: skip

BEHAVIOUR: dict[str, Any] = {
    "name": "code", "about": "Writes small functions that pass their tests.", "tag": "guard", "good": "up", "margin": 0.05,
    "scorer": "passes", "settings": {"max_new_tokens": 256},
    "families": [
        {
            "family": signature, "expect": tests,
            "prompts": [
                f"Write a Python function {signature} that {task}.",
                f"Can you write {signature} in Python? It {task}. Please give the whole code.",
            ],
        }
        for signature, (task, tests) in TASKS.items()
    ],
}  # fmt: skip
