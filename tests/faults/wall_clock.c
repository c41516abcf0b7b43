/* A wall clock that can be moved while a process runs, preloaded into it: real time plus what the
 * file named by VPPD_WALL_CLOCK says - offset in seconds, drift in seconds a second, and since when
 * on the monotonic clock. Monotonic time, sleeps and timeouts stay as they are: a clock that somebody
 * sets does not change them either. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *told;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("VPPD_WALL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, 3 * sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) told = at;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, which, at);
    if (failed || !told || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE)) return failed;
    struct timespec mono;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &mono);
    double since = (double)mono.tv_sec + (double)mono.tv_nsec / 1e9 - told[2];
    double off = told[0] + told[1] * since;
    long long whole = (long long)off;
    long long rest = at->tv_nsec + (long long)((off - (double)whole) * 1e9);
    at->tv_sec += whole;
    if (rest >= 1000000000LL) { rest -= 1000000000LL; at->tv_sec++; }
    if (rest < 0) { rest += 1000000000LL; at->tv_sec--; }
    at->tv_nsec = (long)rest;
    return 0;
}

int gettimeofday(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
