// A disk whose syncs take a millisecond longer, for programs that preload this
// library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <time.h>

static void wait_a_millisecond(void)
{
	struct timespec rest = {.tv_sec = 0, .tv_nsec = 1000000};
	while (nanosleep(&rest, &rest) == -1 && errno == EINTR)
		;
}

int fsync(int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	wait_a_millisecond();
	return next(fd);
}

int fdatasync(int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	wait_a_millisecond();
	return next(fd);
}
