#!/usr/bin/env python3
"""Solves for the sharing graphs' parameters and writes the table that the library is built with.

    graph_parameters.py table              prints src/aggregation/graph_table.cc
    graph_parameters.py rows MODE SIZE...  prints "n gamma_ppm delta_ppm k t a" for graphs of those
                                           sizes; MODE is 1 (self-selected) or 2 (Harary)
    graph_parameters.py published          checks the 22 published values of Google's finder

Logarithms of hypergeometric tails come from lgamma in double, which differs in its last bits from
one C library to the next. Both sides of a session must agree on k and t exactly, so they read a
table and solve nothing. [specification 3.6]
"""
import math
import sys

VERSION = 1
SIGMA, ETA = 40, 20
LOG2 = math.log(2)
GAMMAS_PPM = (50_000, 100_000, 200_000)
DELTAS_PPM = (50_000, 100_000, 200_000, 330_000)
LARGE = (3_000, 10_000, 30_000, 100_000)
SELF_SELECTED_SIZES = tuple(sorted([*range(160, 1025, 32), 300, 1_000])) + LARGE
HARARY_SIZES = tuple(sorted([*range(32, 129, 16), 100])) + SELF_SELECTED_SIZES
HONEST_SHARE_MIN = 0.2  # of the honest clients, in every sum that can be learnt
FEW = math.log(1e-26)  # terms of a tail this far below its largest change nothing in double

_log_factorials = [0.0]


def log_factorial(n):
    while len(_log_factorials) <= n:
        _log_factorials.append(math.lgamma(len(_log_factorials) + 1))
    return _log_factorials[n]


def log_choose(n, k):
    if k < 0 or k > n:
        return -math.inf
    return log_factorial(n) - log_factorial(k) - log_factorial(n - k)


def log_sum(terms):
    largest = max(terms, default=-math.inf)
    if largest == -math.inf:
        return largest
    return largest + math.log(math.fsum(math.exp(t - largest) for t in terms))


class Hypergeometric:
    """How many marked balls are among `drawn` from `population`, of which `marked` are marked."""

    def __init__(self, population, marked, drawn):
        self.population, self.marked, self.drawn = population, marked, drawn
        self.least = max(0, drawn - (population - marked))
        self.most = min(drawn, marked)
        self.mean = drawn * marked / population
        self.log_all = log_choose(population, drawn)

    def _log_probability(self, x):
        return (log_choose(self.marked, x) +
                log_choose(self.population - self.marked, self.drawn - x) - self.log_all)

    def _log_tail(self, values, beyond_mean):
        terms, largest = [], -math.inf
        for x in values:
            term = self._log_probability(x)
            terms.append(term)
            largest = max(largest, term)
            if term < largest + FEW and beyond_mean(x):
                break
        return min(0.0, log_sum(terms))

    def log_at_least(self, x):
        if x <= self.least:
            return 0.0
        return self._log_tail(range(x, self.most + 1), lambda v: v > self.mean)

    def log_at_most(self, x):
        if x >= self.most:
            return 0.0
        return self._log_tail(range(x, self.least - 1, -1), lambda v: v < self.mean)


def first(low, high, holds):
    """The smallest x of low..high that `holds`, which stays true once true; high if none before."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def hidden_honest(n, corrupt, k, margin):
    """a: no set of fewer honest clients can be cut off, but with probability 2^-(SIGMA + 1).

    Beyond 2,000 honest clients only every so many set sizes are summed, each counted for its step.
    """
    honest = n - corrupt
    step = max(1, honest // 2_000)
    total, a, size = 0.0, 0, 2
    while size <= honest // 2 + 1:
        closed = Hypergeometric(n - 1, size - 1, k).log_at_least(margin)
        total += math.exp(min(50.0, log_choose(honest, size) + size * closed)) * step
        if total > 2.0**-(SIGMA + 1):
            break
        a, size = size, size + step
    return a


def self_selected(n, gamma, delta):
    """(k, t, a) when each client draws its own k share-holders, or None."""
    corrupt = max(1, math.ceil(gamma * n - 1e-9))
    others, dropouts = n - 1, math.ceil(delta * n - 1e-9)
    secure = -(SIGMA + 1) * LOG2 - math.log(n)
    alive = -ETA * LOG2 - math.log(n)
    for k in [*range(4, 200, 2), *range(200, 4_000, 10)]:
        if k >= others:
            return None
        bad = Hypergeometric(others, corrupt, k)
        bad_most = first(0, min(k, corrupt), lambda x: bad.log_at_least(x + 1) <= secure)
        t = (k + bad_most) // 2 + 1
        good = Hypergeometric(others, others - dropouts, k)
        too_many = first(good.least + 1, good.most + 1,
                         lambda y: good.log_at_most(y - 1) > alive)
        if t > too_many - 1:
            continue
        a = hidden_honest(n, corrupt, k, t - bad_most)
        if a >= HONEST_SHARE_MIN * (n - corrupt):
            return k, t, a
    return None


def harary(n, gamma, delta, semi_honest=True):
    """(k, t) of Google's finder: a ring in which each is joined to its k nearest, or None.

    With semi_honest False the finder's other threat model, which only the published values need.
    """
    corrupt, dropouts = math.floor((gamma + 1e-14) * n), math.floor((delta + 1e-14) * n)
    survivors = math.ceil((1 - delta - 1e-14) * n)
    gone = corrupt + dropouts
    secure = -(SIGMA + 1) * LOG2
    for k in range(2, n - 1, 2):
        if k <= gone:
            cut = (math.log(n) + math.log(n - k - 1) - LOG2 + log_factorial(gone) +
                   log_factorial(n - k) - log_factorial(n) - log_factorial(gone - k))
            if cut >= secure:
                continue
        bad = Hypergeometric(n, corrupt, k)
        bad_most = first(0, k, lambda x: bad.log_at_least(x + 1) <= secure - math.log(n))
        good = Hypergeometric(n, survivors, k)
        good_least = first(0, k, lambda y: good.log_at_most(y) >= -ETA * LOG2 - math.log(n))
        if not semi_honest:
            bad_most = math.ceil((bad_most + k - 1.25) / 2)
        if good_least > bad_most:
            return k, max(bad_most + 1, 2)
    return None


PUBLISHED = (  # n, gamma, delta, semi_honest, k, t: graph_parameter_finder_test.cc
    (100, .45, .45, True, 92, 46), (1_000, .45, .45, True, 822, 417),
    (1_000, .33, .33, True, 286, 150), (10_000, .33, .33, True, 422, 221),
    (10, .05, .33, True, 4, 2), (100, .05, .33, True, 28, 6), (1_000, .05, .33, True, 72, 24),
    (10_000, .05, .33, True, 86, 29), (100_000, .05, .33, True, 96, 32),
    (1_000, .05, .05, True, 30, 17), (10_000, .05, .05, True, 34, 20),
    (100, .3, .3, False, 92, 62), (1_000, .3, .3, False, 872, 584), (10, .05, .33, False, 8, 5),
    (100, .05, .33, False, 72, 39), (1_000, .05, .33, False, 398, 223),
    (10_000, .05, .33, False, 746, 420), (100, .05, .05, False, 16, 11),
    (1_000, .05, .05, False, 52, 37), (10_000, .05, .05, False, 62, 44),
    (100_000, .05, .05, False, 68, 48), (10_000, .33, .05, False, 178, 146))


def entries(mode, n):
    """(gamma_ppm, delta_ppm, (k, t, a)) of each assumption; zeros where no graph serves."""
    for gamma_ppm in GAMMAS_PPM:
        for delta_ppm in DELTAS_PPM:
            gamma, delta = gamma_ppm / 1e6, delta_ppm / 1e6
            if mode == 1:
                yield gamma_ppm, delta_ppm, self_selected(n, gamma, delta) or (0, 0, 0)
            else:
                yield gamma_ppm, delta_ppm, (*(harary(n, gamma, delta) or (0, 0)), 0)


def print_table():
    print("// Made by tests/graph_parameters.py table; not to be edited by hand.")
    print('#include "aggregation/graph.h"\n\nnamespace chorus::aggregation {\n')
    print("// clang-format off")
    for name, mode, sizes in (("kSelfSelectedTable", 1, SELF_SELECTED_SIZES),
                              ("kHararyTable", 2, HARARY_SIZES)):
        print(f"const std::array<GraphRow, k{name[1:]}Rows> {name} = {{{{")
        for n in sizes:
            cells = [f"{{{k}, {t}, {a}}}" for _, _, (k, t, a) in entries(mode, n)]
            lines = [", ".join(cells[i:i + 4]) for i in range(0, len(cells), 4)]
            print(f"    {{{n}, {{{{" + (",\n         " ).join(lines) + "}}},", flush=True)
        print("}};\n")
    print("// clang-format on\n")
    print("}  // namespace chorus::aggregation")


def main(arguments):
    if arguments == ["published"]:
        for n, gamma, delta, semi_honest, k, t in PUBLISHED:
            assert harary(n, gamma, delta, semi_honest) == (k, t), (n, gamma, delta, semi_honest)
        print(len(PUBLISHED), "published values reproduced")
    elif arguments == ["table"]:
        print_table()
    elif len(arguments) > 2 and arguments[0] == "rows":
        for n in map(int, arguments[2:]):
            for gamma_ppm, delta_ppm, entry in entries(int(arguments[1]), n):
                print(n, gamma_ppm, delta_ppm, *entry)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
