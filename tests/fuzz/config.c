/* Configuration files: any text gives a configuration or a complaint. (F8) */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "drsfs/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	struct config_error error = { "" };
	char path[64];
	int fd = memfd_create("config", 0);
	assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	config_default(&config, CONFIG_SLAVE);
	if (config_read_file(&config, CONFIG_SLAVE, path, &error) < 0)
		assert(error.text[0]);
	close(fd);
	return 0;
}
