/*
 * poll_close FILE OTHER: write FILE and close it; meanwhile another thread has an epoll instance watch OTHER. Both files are of one mount, for which that is the first
 * time: the kernel asks the mount whether OTHER can be polled, while it holds a lock of that instance. Many descriptors make the look at those of the process take
 * longer than it takes to come to that.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#define DESCRIPTORS 900
#define HEAD_START 1500 /* µs */

static int instance, other;

static void *poller(void *unused)
{
	struct epoll_event event = { .events = EPOLLIN };
	usleep(HEAD_START);
	epoll_ctl(instance, EPOLL_CTL_ADD, other, &event); /* EPERM: it cannot be polled */
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc != 3)
		return 2;
	int file = open(argv[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	other = open(argv[2], O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < DESCRIPTORS; i++)
		if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
			break;
	instance = epoll_create1(EPOLL_CLOEXEC);
	if (file < 0 || other < 0 || instance < 0 || write(file, "fine\n", 5) != 5 || pthread_create(&thread, NULL, poller, NULL) != 0) {
		perror(argv[1]);
		return 1;
	}
	int closed = close(file);
	pthread_join(thread, NULL);
	return closed < 0;
}
