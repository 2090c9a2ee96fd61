/* Makes each fsync and fdatasync of a process take FSYNC_MS milliseconds longer, as on a slow disk.
 *
 *     cc -shared -fPIC -o slow_disk.so slow_disk.c -ldl
 *     LD_PRELOAD=./slow_disk.so FSYNC_MS=5 java …
 *
 * Java's FileChannel.force calls both through the C library, so that this reaches Elasticsearch.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *text = getenv("FSYNC_MS");
    long ms = text ? atol(text) : 0;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    return real(fd);
}

int fsync(int fd)
{
    return slowly("fsync", fd);
}

int fdatasync(int fd)
{
    return slowly("fdatasync", fd);
}
