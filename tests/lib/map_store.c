/*
 * map_store FILE TEXT [STORED GO]: store TEXT at the start of FILE through a shared mapping that outlives the descriptor, so that no call is left which could wait for
 * the change or fail. The file must be as long as the text. The mapping is kept until there is a file GO, if that is given; STORED is made when the text is stored.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOOK_INTERVAL 20000 /* µs */

int main(int argc, char **argv)
{
	if (argc != 3 && argc != 5)
		return 2;
	size_t size = strlen(argv[2]);
	int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	char *map = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || close(fd) < 0) {
		perror(argv[1]);
		return 1;
	}
	memcpy(map, argv[2], size);
	if (argc == 5) {
		int stored = open(argv[3], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (stored >= 0)
			close(stored);
		while (access(argv[4], F_OK) < 0)
			usleep(LOOK_INTERVAL);
	}
	return munmap(map, size) < 0;
}
