/* libcuda.so.1 as far as advrt looks at it: a driver that finds STANDIN_GPUS GPUs (1 where it is
 * not set), or does not start where that is no number. */
#include <stdlib.h>

enum { SUCCESS = 0, NO_DEVICE = 100, UNKNOWN = 999 };

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);

static int gpus(void) {
    const char *text = getenv("STANDIN_GPUS");
    char *end;
    long n = text && *text ? strtol(text, &end, 10) : 1;
    return text && *text && *end ? -1 : (int)n;
}

int cuInit(unsigned flags) {
    (void)flags;
    return gpus() < 0 ? UNKNOWN : gpus() == 0 ? NO_DEVICE : SUCCESS;
}

int cuDeviceGetCount(int *count) {
    *count = gpus();
    return SUCCESS;
}
