/* A disk whose fsync fails while the file named by TAPE_TEST_FAILS exists. Comes before the system's functions by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

typedef int (*sync_function)(int);

static int sync_or_fail(const char *name, int file) {
    const char *fails = getenv("TAPE_TEST_FAILS");
    if (fails != NULL && access(fails, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return ((sync_function)dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file) { return sync_or_fail("fsync", file); }

int fdatasync(int file) { return sync_or_fail("fdatasync", file); }
