/* Records the syncs of a program, and makes them fail. Loaded before the C library (LD_PRELOAD).
 *
 * FAIL_SYNC=N       the N-th fsync or fdatasync fails with EIO
 * SLOW_FOLDERS=1    listing a folder takes an hour, and "readdir" is logged
 * SLOW_READS=1      reading an archive takes an hour, and "read" is logged
 * HANG=TEXT         reading, writing or locking a file with this text in its path takes an hour, and "hang" is logged
 * LIST_ERRNO=N      listing a folder fails with this error
 * LIST_FOLDER=TEXT  only folders whose path ends in this text fail
 * STAT_ERRNO=N      even looking at such a folder fails with this error
 * FOLDER_ERRNO=N    every fsync of a folder fails with this error
 * SYNC_LOG=PATH     the log: a line for each sync, and "UNSYNCED PATH" if the state file or its journal is written
 *                   before another file of the run is on disk
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS 1024
static char dirty[FDS];
/* The last file that was closed before it was synced. */
static char lost[PATH_MAX];
static int syncs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* Whether the file must be on disk before an archive is marked. */
static int is_kept(const char *path) {
    return strstr(path, "dead_letters") || strstr(path, "processed_files");
}

static void say(const char *what, const char *path) {
    const char *log = getenv("SYNC_LOG");
    if (!log) return;
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s %s\n", what, path);
    int fd = NEXT(open)(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        if (NEXT(write)(fd, line, length) < 0) abort();
        close(fd);
    }
}

static void say_unsynced(int but) {
    char path[PATH_MAX];
    for (int fd = 0; fd < FDS; fd++) {
        if (!dirty[fd] || fd == but) continue;
        path_of(fd, path);
        if (is_kept(path)) say("UNSYNCED", path);
    }
}

static void hang_if_requested(const char *path) {
    const char *hang = getenv("HANG");
    if (hang && strstr(path, hang)) {
        say("hang", path);
        /* A signal interrupts a sleep. */
        while (sleep(3600));
    }
}

int flock(int fd, int operation) {
    char path[PATH_MAX];
    path_of(fd, path);
    hang_if_requested(path);
    return NEXT(flock)(fd, operation);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    path_of(fd, path);
    hang_if_requested(path);
    pthread_mutex_lock(&lock);
    if (strstr(path, ".journal")) say_unsynced(fd);
    if (fd >= 0 && fd < FDS) dirty[fd] = 1;
    pthread_mutex_unlock(&lock);
    return NEXT(write)(fd, bytes, count);
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    if (is_kept(to)) {
        say_unsynced(-1);
        if (!strcmp(lost, from) || strstr(lost, "dead_letters")) say("UNSYNCED", lost);
    }
    pthread_mutex_unlock(&lock);
    return NEXT(rename)(from, to);
}

static int sync_by(int (*next)(int), int fd) {
    char path[PATH_MAX];
    struct stat stat;
    const char *fail = getenv("FAIL_SYNC"), *folder = getenv("FOLDER_ERRNO");
    path_of(fd, path);
    pthread_mutex_lock(&lock);
    int number = ++syncs;
    say("sync", path);
    if (fail && number == atoi(fail)) {
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    if (fd >= 0 && fd < FDS) dirty[fd] = 0;
    pthread_mutex_unlock(&lock);
    if (folder && fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode)) {
        errno = atoi(folder);
        return -1;
    }
    return next(fd);
}

int fsync(int fd) { return sync_by(NEXT(fsync), fd); }
int fdatasync(int fd) { return sync_by(NEXT(fdatasync), fd); }

int close(int fd) {
    char path[PATH_MAX];
    if (fd >= 0 && fd < FDS && dirty[fd]) {
        path_of(fd, path);
        if (is_kept(path)) strcpy(lost, path);
        dirty[fd] = 0;
    }
    return NEXT(close)(fd);
}

static int ends_in(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

int statx(int at, const char *path, int flags, unsigned mask, struct statx *found) {
    const char *error = getenv("STAT_ERRNO"), *only = getenv("LIST_FOLDER");
    /* A program may try with NULL whether there is such a call, which the compiler takes for impossible. */
    const char *volatile named = path;
    if (error && only && named && ends_in(named, only)) {
        errno = atoi(error);
        return -1;
    }
    return NEXT(statx)(at, path, flags, mask, found);
}

ssize_t read(int fd, void *buffer, size_t length) {
    char path[PATH_MAX];
    path_of(fd, path);
    hang_if_requested(path);
    if (getenv("SLOW_READS") && ends_in(path, ".db.zip")) {
        say("read", path);
        sleep(3600);
    }
    return NEXT(read)(fd, buffer, length);
}

struct dirent64 *readdir64(DIR *folder) {
    if (getenv("SLOW_FOLDERS")) {
        say("readdir", "");
        sleep(3600);
    }
    const char *error = getenv("LIST_ERRNO"), *only = getenv("LIST_FOLDER");
    char path[PATH_MAX];
    if (error && only) path_of(dirfd(folder), path);
    if (error && (!only || ends_in(path, only))) {
        errno = atoi(error);
        return NULL;
    }
    return NEXT(readdir64)(folder);
}
