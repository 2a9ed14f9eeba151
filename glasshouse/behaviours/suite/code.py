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
    "second_largest(numbers)": ("returns the second largest of the different values in a list of numbers", ["assert second_largest([4, 9, 9, 7]) == 7", "assert second_largest([-1, -5]) == -5"]),
    "encode_runs(text)": ("replaces each run of the same letter in a text by the letter and the length of the run, so that 'aab' becomes 'a2b1'", ["assert encode_runs('aaabcc') == 'a3b1c2'", "assert encode_runs('abaa') == 'a1b1a2'"]),
    "digit_sum(n)": ("adds up the digits of a positive whole number", ["assert digit_sum(4057) == 16 and digit_sum(99) == 18"]),
    "initials(name)": ("returns the first letters of the words of a name as capitals with nothing between them", ["assert initials('ada king lovelace') == 'AKL'"]),
    "distance(p, q)": ("returns the length of the straight line between two points, each a pair of coordinates", ["assert abs(distance((1, 2), (4, 6)) - 5) < 1e-9"]),
    "invert(table)": ("swaps the keys and the values of a dict whose values all differ", ["assert dict(invert({'a': 1, 'b': 2})) == {1: 'a', 2: 'b'}"]),
    "is_time(text)": ("says whether a text is a time from 00:00 to 23:59, as two digits, a colon and two digits", ["assert is_time('07:30') and is_time('23:59') and is_time('00:00')", "assert not is_time('24:00') and not is_time('12:60') and not is_time('7:30') and not is_time('late')"]),
    "prime_factors(n)": ("returns a list of the prime factors of a whole number above 1 in rising order, each as often as it divides the number", ["assert list(prime_factors(360)) == [2, 2, 2, 3, 3, 5]", "assert list(prime_factors(13)) == [13]"]),
    "longest(words)": ("returns the longest word of a list, or the first of them if several are equally long", ["assert longest(['fig', 'pear', 'plum', 'a']) == 'pear'"]),
    "running_totals(numbers)": ("returns a list of the sums of all numbers of a list up to each place", ["assert list(running_totals([2, 5, -1])) == [2, 7, 6]", "assert list(running_totals([])) == []"]),
    "clock(minutes)": ("turns a number of minutes into a text such as '2:05', with the hours before the colon and always two digits after it", ["assert clock(125) == '2:05' and clock(59) == '0:59' and clock(600) == '10:00'"]),
    "interleave(a, b)": ("takes turns between two lists of the same length to make one list, beginning with the first item of a", ["assert list(interleave([1, 3], [2, 4])) == [1, 2, 3, 4]", "assert list(interleave([9, 1], [5, 0])) == [9, 5, 1, 0]"]),
    "grade(points)": ("returns 'A' from 90 points on, 'B' from 75, 'C' from 60, and 'F' for fewer", ["assert [grade(p) for p in (100, 90, 89, 75, 74, 60, 59, 0)] == ['A', 'A', 'B', 'B', 'C', 'C', 'F', 'F']"]),
    "rotate(items, k)": ("returns a list like the given one, but with its last k items moved to the front in the same order", ["assert list(rotate([1, 2, 3, 4, 5], 2)) == [4, 5, 1, 2, 3]", "assert list(rotate([1, 2], 0)) == [1, 2]"]),
    "collatz_steps(n)": ("counts the steps that a positive whole number takes to become 1, where each step halves an even number and makes an odd one three times itself plus one", ["assert collatz_steps(6) == 8 and collatz_steps(1) == 0 and collatz_steps(2) == 1"]),
    "group_by_length(words)": ("groups a list of words into a dict from each length to a list of the words that have it, in their order", ["assert {k: list(v) for k, v in group_by_length(['to', 'a', 'be', 'sea']).items()} == {1: ['a'], 2: ['to', 'be'], 3: ['sea']}"]),
    "is_square(n)": ("says whether a whole number of at least 0 is the square of a whole number", ["assert is_square(49) and is_square(0) and is_square(1)", "assert not is_square(50) and not is_square(2) and not is_square(48)"]),
    "mask(text)": ("replaces each character of a text but the last four with a star (*)", ["assert mask('12345678') == '****5678' and mask('abcd') == 'abcd' and mask('ab') == 'ab'"]),
    "multiply(a, b)": ("returns the product of two matrices, each given as a list of rows", ["assert [list(r) for r in multiply([[1, 2], [3, 4]], [[0, 1], [1, 0]])] == [[2, 1], [4, 3]]", "assert [list(r) for r in multiply([[1, 2, 3]], [[4], [5], [6]])] == [[32]]"]),
    "coins(amount)": ("returns the least number of coins of 1, 5, 10 and 25 that make up a whole amount", ["assert coins(41) == 4 and coins(30) == 2 and coins(4) == 4 and coins(0) == 0"]),
    "first_unique(text)": ("returns the first character that occurs only once in a text, or None if there is none", ["assert first_unique('abacb') == 'c' and first_unique('aabb') is None", "assert first_unique('xyx') == 'y'"]),
    "compound(amount, rate, years)": ("returns what an amount grows to in some years with compound interest of rate per cent a year, added once a year", ["assert abs(compound(100, 10, 2) - 121) < 1e-6", "assert abs(compound(50, 4, 0) - 50) < 1e-6"]),
    "depth(items)": ("says how many levels of lists a list has, which is 1 if no list is in it", ["assert depth([1, [2, [3]], [4]]) == 3 and depth([1, 2]) == 1 and depth([]) == 1", "assert depth([[1], 2]) == 2"]),
    "to_camel(text)": ("turns a name such as my_first_word into one such as myFirstWord", ["assert to_camel('my_first_word') == 'myFirstWord' and to_camel('word') == 'word'"]),
    "partition(items, test)": ("returns two lists, one of the items for which the function test is true and one of the others", ["assert [list(p) for p in partition([1, 2, 3, 4], lambda n: n > 2)] == [[3, 4], [1, 2]]"]),
    "to_binary(n)": ("writes a whole number of at least 0 as a text of binary digits, without a prefix or zeros in front", ["assert to_binary(10) == '1010' and to_binary(1) == '1' and to_binary(0) == '0'"]),
    "add_fractions(a, b)": ("adds two positive fractions, each a tuple of numerator and denominator, and returns such a tuple in lowest terms", ["assert tuple(add_fractions((1, 2), (1, 6))) == (2, 3)", "assert tuple(add_fractions((1, 3), (1, 4))) == (7, 12)"]),
    "replace_words(text, table)": ("returns a text of words and single spaces with each word that is a key of a dict replaced by its value", ["assert replace_words('the cat sat', {'cat': 'dog', 'he': 'she'}) == 'the dog sat'", "assert replace_words('a b', {'a': 'b', 'b': 'a'}) == 'b a'"]),
    "factorial(n)": ("returns the factorial of a whole number of at least 0", ["assert factorial(5) == 120 and factorial(0) == 1 and factorial(1) == 1"]),
    "make_counter()": ("returns a function that takes nothing and returns 1 when it is first called, and one more each time after", ["c = make_counter(); d = make_counter(); assert [c(), c(), c(), d()] == [1, 2, 3, 1]"]),
    "missing(numbers, n)": ("returns the one whole number from 1 to n that is not in a list of all the others in any order", ["assert missing([4, 1, 3], 4) == 2 and missing([2, 1], 3) == 3 and missing([2], 2) == 1"]),
    "overlap(a, b)": ("says whether two intervals, each a tuple of its lower and its upper end, share more than a single point", ["assert overlap((1, 3), (2, 5)) and overlap((2, 5), (1, 3)) and overlap((0, 9), (4, 5))", "assert not overlap((1, 2), (3, 4)) and not overlap((1, 2), (2, 3)) and not overlap((3, 4), (1, 2))"]),
    "pascal(n)": ("returns row n of Pascal's triangle as a list, where row 0 is [1]", ["assert list(pascal(4)) == [1, 4, 6, 4, 1] and list(pascal(0)) == [1] and list(pascal(1)) == [1, 1]"]),
    "moving_average(numbers, n)": ("returns a list of the means of each n neighbouring numbers of a list, from left to right", ["assert list(moving_average([1, 2, 3, 6], 2)) == [1.5, 2.5, 4.5]", "assert list(moving_average([4, 8], 1)) == [4, 8]"]),
    "parse_settings(text)": ("turns a text such as 'a=1;b=2' into a dict whose keys and values are texts", ["assert dict(parse_settings('a=1;b=2')) == {'a': '1', 'b': '2'}", "assert dict(parse_settings('size=large')) == {'size': 'large'}"]),
    "sort_by_length(words)": ("returns a list of words sorted from the shortest to the longest, those of the same length in the order they had", ["assert list(sort_by_length(['pear', 'fig', 'a', 'date', 'elm'])) == ['a', 'fig', 'elm', 'pear', 'date']"]),
    "to_rgb(colour)": ("turns a colour such as '#ff8000' into a tuple of three whole numbers from 0 to 255", ["assert tuple(to_rgb('#ff8000')) == (255, 128, 0)", "assert tuple(to_rgb('#0a0b0c')) == (10, 11, 12)"]),
    "is_rising(numbers)": ("says whether each number of a list is larger than the one before it", ["assert is_rising([1, 2, 5]) and is_rising([3])", "assert not is_rising([1, 1, 2]) and not is_rising([1, 3, 2])"]),
    "repeat(f, n, x)": ("applies a function f to x, then to what comes out, and so on, n times in all, and returns the last result", ["assert repeat(lambda v: v * 2, 3, 1) == 8 and repeat(lambda v: v + 1, 1, 4) == 5", "assert repeat(lambda v: v + 1, 0, 4) == 4"]),
    "look_up(data, path)": ("looks up a path of keys such as 'a.b' in nested dicts, and returns None if one of the keys is missing", ["assert look_up({'a': {'b': 5}}, 'a.b') == 5 and look_up({'c': 1}, 'c') == 1", "assert look_up({'a': {'b': 5}}, 'a.x') is None and look_up({}, 'a.b') is None"]),
    "trace(rows)": ("adds up the numbers on the diagonal of a square matrix, given as a list of rows, from the top left to the bottom right", ["assert trace([[1, 2, 3], [4, 5, 6], [7, 8, 10]]) == 16 and trace([[4]]) == 4"]),
    "pairs(items)": ("returns a list of all pairs of two items of a list of different items, each pair once and as a tuple with the earlier item first", ["assert sorted(tuple(p) for p in pairs([1, 2, 3])) == [(1, 2), (1, 3), (2, 3)]", "assert list(pairs([7])) == []"]),
    "top(scores, n)": ("returns a list of the n names with the highest scores in a dict from names to different scores, the highest first", ["assert list(top({'Ann': 3, 'Bo': 9, 'Cy': 5}, 2)) == ['Bo', 'Cy']"]),
    "clamp(x, low, high)": ("returns a number x, or the nearer of the two bounds low and high where it lies beyond them", ["assert clamp(5, 1, 9) == 5 and clamp(-2, 1, 9) == 1 and clamp(12, 1, 9) == 9"]),
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
