/* Every file of tests/fuzz/corpus once more through the fuzz target it was kept for: no crash, no
 * memory kept, and a message of one line for what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "../fuzz/targets.h"
#include "base/file.h"
#include "base/memory.h"

enum { LEAST = 10, MOST = 1 << 20 };

static void replay(void **state) {
    const FuzzTarget *target = *state;
    char folder[256], path[512];
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", target->name);
    DIR *d = opendir(folder);
    if (!d) fail_msg("%s: no such folder", folder);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        Error e = {0};
        unsigned char *bytes;
        size_t n;
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (file_read_whole(path, MOST, &bytes, &n, &e) != 0) fail_msg("%s", e.text);
        print_message("# %s\n", path); /* the last one is what a crash was for */
        fuzz_run(target, bytes, n);
        memory_free(bytes);
        files++;
    }
    closedir(d);
    assert_true(files >= LEAST);
}

int main(void) {
    struct CMUnitTest tests[FUZZ_TARGETS];
    for (int i = 0; i < FUZZ_TARGETS; i++)
        tests[i] = (struct CMUnitTest){.name = fuzz_targets[i].name,
                                       .test_func = replay,
                                       .initial_state = (void *)(uintptr_t)&fuzz_targets[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
