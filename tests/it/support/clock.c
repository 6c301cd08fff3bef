/*
 * Gives one process a wall clock of its own: a library for LD_PRELOAD that adds to every
 * reading of the clock the milliseconds that stand in the file $CLOCK_FILE, as a signed
 * 64-bit number in the machine's byte order. The file is mapped, so that a test moves the
 * clock of a running process by writing to it. Monotonic clocks stay as they are.
 *
 * System calls are made directly: the functions of libc are the ones that are replaced.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long none;
static volatile long long *offset_ms;

static long long offset(void) {
  if (!offset_ms) {
    const char *path = getenv("CLOCK_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    void *map = MAP_FAILED;
    if (file >= 0) {
      map = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
      close(file);
    }
    offset_ms = map == MAP_FAILED ? &none : map;
  }
  return *offset_ms;
}

static void read_clock(struct timespec *time) {
  syscall(SYS_clock_gettime, CLOCK_REALTIME, time);
  long long ms = offset();
  time->tv_sec += ms / 1000;
  time->tv_nsec += ms % 1000 * 1000000;
  if (time->tv_nsec < 0) {
    time->tv_nsec += 1000000000;
    time->tv_sec--;
  } else if (time->tv_nsec >= 1000000000) {
    time->tv_nsec -= 1000000000;
    time->tv_sec++;
  }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
    return syscall(SYS_clock_gettime, clock, time);
  }
  read_clock(time);
  return 0;
}

int gettimeofday(struct timeval *time, void *zone) {
  (void)zone;
  struct timespec now;
  read_clock(&now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *seconds) {
  struct timespec now;
  read_clock(&now);
  if (seconds) {
    *seconds = now.tv_sec;
  }
  return now.tv_sec;
}
