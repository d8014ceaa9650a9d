#include "base/nearest.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

enum { LONGEST = 64 }; /* longest name compared, in bytes */
/* Costs of typing mistakes. A name is near at a cost of up to 1 per letter. A wrong digit is seldom
 * a typing mistake. */
enum { EDIT = 3, SWAP = 2, OTHER_DIGIT = 6 };
enum { LEAST_START = 2, LEAST_KNOWN_START = 3 };

/* Normalises a name for comparison. Returns its length, or 0 if it is empty or too long. */
static int plain(char out[LONGEST], const char *name) {
    int n = 0;
    while (*name == '-') name++;
    for (; name[n] != '\0'; n++) {
        if (n == LONGEST) return 0;
        out[n] = name[n] == '-' ? '_' : name[n];
        if (out[n] >= 'A' && out[n] <= 'Z') out[n] += 'a' - 'A';
    }
    return n;
}

static int least(int a, int b) {
    return a < b ? a : b;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int replace(char a, char b) {
    if (a == b) return 0;
    return is_digit(a) && is_digit(b) ? OTHER_DIGIT : EDIT;
}

/* The cost of changing one name into the other by edits and swaps of neighbours. */
static int cost(const char *a, int m, const char *b, int n) {
    int rows[3][LONGEST + 1], *before = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= n; j++) row[j] = EDIT * j;
    for (int i = 1; i <= m; i++) {
        int *oldest = before;
        before = last;
        last = row;
        row = oldest;
        row[0] = EDIT * i;
        for (int j = 1; j <= n; j++) {
            row[j] = last[j - 1] + replace(a[i - 1], b[j - 1]);
            row[j] = least(row[j], EDIT + least(last[j], row[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + SWAP);
        }
    }
    return row[n];
}

static int common_start(const char *a, int m, const char *b, int n) {
    int i = 0;
    while (i < m && i < n && a[i] == b[i]) i++;
    return i;
}

const char *nearest(const char *given, const char *const names[], size_t n) {
    char a[LONGEST], b[LONGEST];
    const char *found = NULL;
    int m = plain(a, given), best = INT_MAX, most = 0;
    for (size_t k = 0; k < n && m > 0; k++) {
        int length = plain(b, names[k]);
        if (length == 0) continue;
        int start = common_start(a, m, b, length), limit = m > length ? m : length;
        int c = cost(a, m, b, length);
        if (start == m && m >= LEAST_START)
            c = least(c, 1); /* the rest is left out on purpose */
        else if (start == length && length >= LEAST_KNOWN_START)
            c = least(c, limit);
        if (c > limit || c > best || (c == best && start <= most)) continue;
        found = names[k];
        best = c;
        most = start;
    }
    return found;
}
