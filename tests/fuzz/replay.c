/*
 * Runs a fuzz target without a fuzzer: every file of the corpora that are named, then each of them broken in simple ways (cut at every
 * length, every byte changed), which finds most of what a decoder forgets. 'make check' does this under the sanitizers.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX 65536
#define BREAK_BYTES_MAX 2048 /* larger inputs are broken at random places only */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of just its size, so that reading one byte too far is seen. */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void run_broken(uint8_t *data, size_t size)
{
	static const uint8_t changes[] = { 0x01, 0x80, 0xff };
	size_t step = size > BREAK_BYTES_MAX ? size / BREAK_BYTES_MAX : 1;
	for (size_t i = 0; i < size; i += step) {
		run(data, i);
		for (size_t c = 0; c < sizeof(changes); c++) {
			data[i] ^= changes[c];
			run(data, size);
			data[i] ^= changes[c];
		}
	}
}

static int run_file(const char *path)
{
	static uint8_t data[INPUT_BYTES_MAX];
	FILE *file = fopen(path, "rb");
	if (!file) {
		perror(path);
		return 0;
	}
	size_t size = fread(data, 1, sizeof(data), file);
	fclose(file);
	run(data, size);
	run_broken(data, size);
	return 1;
}

int main(int argc, char **argv)
{
	int count = 0;
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		if (!dir) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *entry; (entry = readdir(dir));) {
			char path[4096];
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			if (entry->d_name[0] != '.')
				count += run_file(path);
		}
		closedir(dir);
	}
	printf("%d inputs\n", count);
	return count ? 0 : 1;
}
