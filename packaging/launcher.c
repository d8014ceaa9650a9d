/* The launcher of a bundle: starts a carried program with the carried loader and libraries. It is
 * linked statically, so that it needs nothing of the system. It changes no variable, so that
 * programs started later find their own libraries.
 *
 * CARRIED is the folder of what is carried, relative to the launcher's own. That folder holds the
 * program under the launcher's name, the libraries, and the C library with its loader in libc/.
 * ADVRT_LIBC=system uses the system's C library in place of the carried one. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define LOADER "ld-linux-x86-64.so.2"
enum { OWN_WORDS = 5, CANNOT_START = 127, TEXT = 4 * PATH_MAX };

/* Finds this file, also where /proc is not mounted. */
static int find_self(char self[PATH_MAX]) {
    ssize_t n = readlink("/proc/self/exe", self, PATH_MAX - 1);
    const char *name = (const char *)getauxval(AT_EXECFN);
    if (n <= 0) return name != NULL && realpath(name, self) != NULL ? 0 : -1;
    self[n] = '\0';
    return 0;
}

static int fail(const char *what, const char *path) {
    fprintf(stderr, "advrt: %s %s: %s; unpack the bundle again, all of it\n", what, path,
            strerror(errno));
    return CANNOT_START;
}

int main(int argc, char **argv) {
    char self[PATH_MAX], folder[2 * PATH_MAX], carried[PATH_MAX], libraries[TEXT],
        program[2 * PATH_MAX], loader[2 * PATH_MAX];
    if (find_self(self) != 0) return fail("cannot tell where this program is:", argv[0]);
    const char *name = strrchr(self, '/') + 1;
    snprintf(folder, sizeof folder, "%.*s%s", (int)(name - self), self, CARRIED);
    if (realpath(folder, carried) == NULL) return fail("cannot open", folder);

    const char *libc = getenv("ADVRT_LIBC"), *more = getenv("LD_LIBRARY_PATH");
    int system = libc != NULL && strcmp(libc, "system") == 0;
    snprintf(program, sizeof program, "%s/%s", carried, name);
    snprintf(loader, sizeof loader, "%s/libc/%s", carried, LOADER);
    /* The loader puts the program's folder for $ORIGIN, colons in its name included. */
    int n = snprintf(libraries, sizeof libraries, "$ORIGIN%s%s%s", system ? "" : ":$ORIGIN/libc",
                     more != NULL && *more != '\0' ? ":" : "", more != NULL ? more : "");
    char **words = calloc((size_t)argc + OWN_WORDS + 1, sizeof *words);
    if (n >= TEXT || words == NULL) {
        fprintf(stderr, "advrt: LD_LIBRARY_PATH is too long\n");
        return CANNOT_START;
    }
    /* --argv0: the program finds its files, and starts itself anew, by this path. */
    char *own[OWN_WORDS] = {system ? "/lib64/" LOADER : loader, "--library-path", libraries,
                            "--argv0", self};
    memcpy(words, own, sizeof own);
    words[OWN_WORDS] = program;
    for (int i = 1; i < argc; i++) words[OWN_WORDS + i] = argv[i];
    execv(words[0], words);
    return fail("cannot start", words[0]);
}
