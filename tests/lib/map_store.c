/*
 * map_store FILE TEXT: store TEXT at the start of FILE through a shared mapping that outlives the descriptor, so that no call is left which could wait for
 * the change or fail. The file must be as long as the text.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	size_t size = strlen(argv[2]);
	int fd = open(argv[1], O_RDWR | O_CLOEXEC);
	char *map = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || close(fd) < 0) {
		perror(argv[1]);
		return 1;
	}
	memcpy(map, argv[2], size);
	return munmap(map, size) < 0;
}
