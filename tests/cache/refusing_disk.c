/* A disk that refuses: put before the C library (LD_PRELOAD), it counts the calls that need room or change
   names below a folder, and refuses some of them.

   REFUSING_DISK       the folder
   REFUSING_CONTROL    a file of five 64-bit numbers, mapped into memory:
                       [0] calls so far  [1] refuse this call (1 is the first; 0: none)
                       [2] how many from there on (0: all)  [3] the error (errno; -9: SIGKILL before the call)
                       [4] the error of every lock (0: none fails)
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile int64_t *control;
static char folder[PATH_MAX];
static size_t folder_length;

static void begin(void) {
    if (control) return;
    static int64_t none[5];
    control = none;
    const char *name = getenv("REFUSING_CONTROL"), *place = getenv("REFUSING_DISK");
    if (!name || !place) return;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int handle = real_open(name, O_RDWR | O_CLOEXEC);
    if (handle < 0) return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (mapped == MAP_FAILED) return;
    folder_length = (size_t)snprintf(folder, sizeof folder, "%s", place);
    control = mapped;
}

static int below(const char *path) {
    if (!folder_length || !path) return 0;
    return strncmp(path, folder, folder_length) == 0;
}

static int handle_below(int handle) {
    char link[64], path[PATH_MAX];
    if (!folder_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this call is refused; errno is set then. */
static int refused(void) {
    int64_t call = __atomic_add_fetch(&control[0], 1, __ATOMIC_SEQ_CST), first = control[1];
    if (!first || call < first || (control[2] && call >= first + control[2])) return 0;
    if (control[3] == -9) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = (int)control[3];
    return 1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    begin(); \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int handle, const void *data, size_t count) {
    REAL(write);
    return handle_below(handle) && refused() ? -1 : real(handle, data, count);
}

ssize_t pwrite64(int handle, const void *data, size_t count, off64_t place) {
    REAL(pwrite64);
    return handle_below(handle) && refused() ? -1 : real(handle, data, count, place);
}

ssize_t pwrite(int handle, const void *data, size_t count, off_t place) {
    REAL(pwrite);
    return handle_below(handle) && refused() ? -1 : real(handle, data, count, place);
}

ssize_t writev(int handle, const struct iovec *parts, int count) {
    REAL(writev);
    return handle_below(handle) && refused() ? -1 : real(handle, parts, count);
}

int ftruncate64(int handle, off64_t length) {
    REAL(ftruncate64);
    return handle_below(handle) && refused() ? -1 : real(handle, length);
}

int ftruncate(int handle, off_t length) {
    REAL(ftruncate);
    return handle_below(handle) && refused() ? -1 : real(handle, length);
}

int posix_fallocate64(int handle, off64_t place, off64_t length) {
    REAL(posix_fallocate64);
    return handle_below(handle) && refused() ? errno : real(handle, place, length);
}

int fsync(int handle) {
    REAL(fsync);
    return handle_below(handle) && refused() ? -1 : real(handle);
}

int fdatasync(int handle) {
    REAL(fdatasync);
    return handle_below(handle) && refused() ? -1 : real(handle);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return below(path) && refused() ? -1 : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return below(to) && refused() ? -1 : real(from, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    return below(to) && refused() ? -1 : real(from, to);
}

static int makes(const char *path, int flags) {
    struct stat there;
    return (flags & O_CREAT) && below(path) && stat(path, &there) != 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, int) : 0; \
        va_end(rest); \
        return makes(path, flags) && refused() ? -1 : real(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

static int lock_fails(int handle) {
    if (!control[4] || !handle_below(handle)) return 0;
    errno = (int)control[4];
    return 1;
}

int flock(int handle, int operation) {
    REAL(flock);
    return lock_fails(handle) ? -1 : real(handle, operation);
}

#define FCNTL(name) \
    int name(int handle, int command, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, command); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        int locks = command == F_SETLK || command == F_SETLKW || command == F_GETLK; \
        return locks && lock_fails(handle) ? -1 : real(handle, command, argument); \
    }

FCNTL(fcntl)
FCNTL(fcntl64)
