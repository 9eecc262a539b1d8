/* A wall clock that is wrong, for one process (LD_PRELOAD). The file named by WRONG_CLOCK holds by how many seconds, as
 * text; it may be rewritten meanwhile. Clocks that only ever run stay right.
 *
 * libfaketime does not do for a client of Kafka: librdkafka waits in C11's cnd_timedwait, until a moment of the wall
 * clock, which libfaketime leaves alone, so that each wait takes as long as the clock is ahead. Here such moments are
 * taken back to the true clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static long wrong_seconds(void) {
    const char *path = getenv("WRONG_CLOCK");
    FILE *file = path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

/* Asked for at most once in a tenth of a second: reading a file takes longer than reading a clock. */
static long offset(const struct timespec *now) {
    static _Atomic long cached, asked_at = -1;
    long tenth = now->tv_sec * 10 + now->tv_nsec / 100000000;
    if (asked_at != tenth) {
        asked_at = tenth;
        cached = wrong_seconds();
    }
    return cached;
}

static void true_time(struct timespec *now) { syscall(SYS_clock_gettime, CLOCK_REALTIME, now); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now)) return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += offset(now);
    return 0;
}

int timespec_get(struct timespec *now, int base) { return clock_gettime(CLOCK_REALTIME, now) ? 0 : base; }

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

static struct timespec truly(const struct timespec *until) {
    struct timespec now, moment = *until;
    true_time(&now);
    moment.tv_sec -= offset(&now);
    return moment;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec moment = truly(until);
    return real(condition, mutex, &moment);
}

/* A condition may wait by a clock that only runs, as Java's do; then the moment is no date of this century. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec moment = until->tv_sec < 1000000000 ? *until : truly(until);
    return real(condition, mutex, &moment);
}
