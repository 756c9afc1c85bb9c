/* The option table: defaults, files, flags, and what is said about mistakes. (F8) */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drsfs/config.h"
#include "drsfs/error.h"

static struct config config;
static struct config_error error;

/* config_read_arguments() with the words of one line. */
static int arguments(enum config_role role, const char *line)
{
	static char words[1024];
	char *argv[32], *save = NULL;
	int argc = 0;
	snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	return config_read_arguments(&config, role, argc, argv, &error);
}

/* config_read_file() of a file with this text. */
static int file_text(enum config_role role, const char *text)
{
	char path[] = "/tmp/drsfs-config-XXXXXX";
	int fd = mkstemp(path);
	cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	config_default(&config, role);
	int r = config_read_file(&config, role, path, &error);
	unlink(path);
	return r;
}

static void expect_error(int r, const char *part)
{
	cr_expect(eq(int, r, -DRS_ECONFIG));
	cr_expect(strstr(error.text, part) != NULL, "'%s' does not say '%s'", error.text, part);
}

Test(config, durations_have_units)
{
	static const struct {
		const char *text;
		uint32_t ms;
	} good[] = { { "0", 0 }, { "20ms", 20 }, { "1s", 1000 }, { "1.5s", 1500 }, { "10min", 600000 }, { "10 m", 600000 }, { "2h", 7200000 }, { "7d", 604800000 } };
	static const char *const bad[] = { "", "5", "s", "-1s", "1.2.3s", "1 week", "50d", "1s1", "0x10s", "1e3s", "..s" };
	uint32_t ms;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		cr_expect(zero(int, config_parse_duration(good[i].text, &ms)), "%s", good[i].text);
		cr_expect(eq(u32, ms, good[i].ms), "%s", good[i].text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect(lt(int, config_parse_duration(bad[i], &ms), 0), "%s", bad[i]);
}

Test(config, numbers_are_digits_only)
{
	static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "0x1", "1k", "99999999999999999999" };
	uint64_t number;
	cr_expect(zero(int, config_parse_number("18446744073709551615", &number)));
	cr_expect(eq(u64, number, UINT64_MAX));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect(lt(int, config_parse_number(bad[i], &number), 0), "'%s'", bad[i]);
}

Test(config, defaults_are_those_that_help_tells)
{
	unsetenv("DRSFS_STATE");
	cr_assert(zero(int, arguments(CONFIG_MASTER, "master /mnt")));
	cr_expect(eq(str, config.state, "/var/lib/drsfs"));
	cr_expect(eq(str, config.listen, "0.0.0.0:7411"));
	cr_expect(eq(str, config.group, "239.255.74.11:7411"));
	cr_expect(eq(u32, config.beat_interval_ms, 1000));
	cr_expect(eq(u32, config.publish_delay_ms, 20));
	cr_expect(eq(u64, config.retain_versions, 1000));
	cr_expect(eq(u32, config.retain_ms, 600000));
	cr_expect(eq(u32, config.multicast_ttl, 1));
	cr_expect(eq(int, config.log_level, 6));
	cr_expect(ne(str, config.name, ""));
	cr_expect(eq(str, config.log_file, "/var/lib/drsfs/log"));
	cr_expect(not(config.background));
	cr_assert(zero(int, arguments(CONFIG_SLAVE, "slave -m m /mnt")));
	cr_expect(config.wait_first && !config.wait_master);
	cr_expect(eq(str, config.check, ""));
	cr_expect(eq(str, config.after, ""));
	cr_expect(eq(u32, config.check_timeout_ms, 30000));
	cr_expect(eq(u32, config.after_timeout_ms, 60000));
}

Test(config, state_comes_from_the_environment_unless_a_flag_says)
{
	setenv("DRSFS_STATE", "/srv/state", 1);
	cr_assert(zero(int, arguments(CONFIG_MASTER, "master /mnt")));
	cr_expect(eq(str, config.state, "/srv/state"));
	cr_assert(zero(int, arguments(CONFIG_MASTER, "master /mnt --state /other")));
	cr_expect(eq(str, config.state, "/other"));
}

Test(config, paths_become_absolute)
{
	cr_assert(zero(int, chdir("/usr")));
	cr_assert(zero(int, arguments(CONFIG_MASTER, "master here -s there")));
	cr_expect(eq(str, config.mountpoint, "/usr/here"));
	cr_expect(eq(str, config.state, "/usr/there"));
	cr_assert(zero(int, chdir("/")));
	cr_assert(zero(int, arguments(CONFIG_MASTER, "master here")));
	cr_expect(eq(str, config.mountpoint, "/here"));
}

Test(config, addresses_get_the_usual_port)
{
	static const struct {
		const char *flag, *address;
	} good[] = { { "host", "host:7411" }, { "host:9", "host:9" }, { "10.0.0.1", "10.0.0.1:7411" }, { "[fe80::1]", "[fe80::1]:7411" }, { "[::]:9", "[::]:9" } };
	static const char *const bad[] = { ":9", "host:", "host:x", "host:70000", "fe80::1", "[::", "[]:1", "[::]9" };
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		config_default(&config, CONFIG_SLAVE);
		cr_expect(zero(int, config_set(&config, CONFIG_SLAVE, "master", good[i].flag, &error)), "%s", good[i].flag);
		cr_expect(eq(str, config.master, (char *)good[i].address));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect(lt(int, config_set(&config, CONFIG_SLAVE, "master", bad[i], &error), 0), "%s", bad[i]);
	cr_expect(zero(int, config_set(&config, CONFIG_SLAVE, "group", "none", &error)));
	cr_expect(eq(str, config.group, "none"));
}

Test(config, a_file_gives_what_flags_do_not)
{
	cr_assert(zero(int, file_text(CONFIG_MASTER, "# the config volume\n[drsfs]\nbeat_interval = 500ms\nretain-versions=7\nsync_close = on\n"
						     "mountpoint = /srv/config ; here\nlog_level = debug\n")));
	cr_expect(eq(u32, config.beat_interval_ms, 500));
	cr_expect(eq(u64, config.retain_versions, 7));
	cr_expect(config.sync_close);
	cr_expect(eq(str, config.mountpoint, "/srv/config"));
	cr_expect(eq(int, config.log_level, 7));
}

/* Shell commands, with what else means something in such a file. (R4.2) */
Test(config, commands_are_taken_as_they_stand)
{
	cr_assert(zero(int, file_text(CONFIG_SLAVE, "[drsfs]\nmaster = m\ncheck = nginx -t -p \"$DRSFS_TREE\" -c 'a b' && x=1; echo $x | grep -q 1\n"
						    "check_timeout = 5s\nafter = systemctl reload nginx || true # always\nafter_timeout = 2min\n")),
		  "%s", error.text);
	cr_expect(eq(str, config.check, "nginx -t -p \"$DRSFS_TREE\" -c 'a b' && x=1; echo $x | grep -q 1"));
	cr_expect(eq(str, config.after, "systemctl reload nginx || true # always"));
	cr_expect(eq(u32, config.check_timeout_ms, 5000));
	cr_expect(eq(u32, config.after_timeout_ms, 120000));
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\ncheck = true\n"), "'check' is an option of a slave, not of a master");
	expect_error(arguments(CONFIG_SLAVE, "slave /mnt --master m --check-timeout 0"), "check-timeout must be from 0.01s");
}

Test(config, flags_win_over_the_file_wherever_they_stand)
{
	char path[] = "/tmp/drsfs-config-XXXXXX", line[256];
	int fd = mkstemp(path);
	cr_assert(fd >= 0);
	dprintf(fd, "[drsfs]\nname = file\nbeat_interval = 300ms\nmountpoint = /file\n");
	close(fd);
	snprintf(line, sizeof(line), "master --name flag --config %s", path);
	int r = arguments(CONFIG_MASTER, line);
	unlink(path);
	cr_assert(zero(int, r), "%s", error.text);
	cr_expect(eq(str, config.name, "flag"));
	cr_expect(eq(u32, config.beat_interval_ms, 300));
	cr_expect(eq(str, config.mountpoint, "/file"));
}

Test(config, mistakes_in_a_file_are_told_with_line_and_guess)
{
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\n\nbeat_intervall = 1s\n"), ":3: there is no option 'beat_intervall'; did you mean 'beat_interval'?");
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\nbeat_interval = 1\nname = *\n"), ":2: beat-interval must be a time with its unit");
	expect_error(file_text(CONFIG_MASTER, "name = x\n"), ":1: 'name' stands before the section [drsfs]");
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\n[other]\nname = x\n"), ":3: there is no section [other]");
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\nrubbish\n"), ":2: this is neither");
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\nmaster = h\n"), "'master' is an option of a slave, not of a master");
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\nbackground = yes\n"), "there is no option 'background' here");
	expect_error(file_text(CONFIG_MASTER, "[drsfs]\nretain_versions = 0\n"), "retain-versions must be a number from 1 to");
	config_default(&config, CONFIG_MASTER);
	cr_expect(eq(int, config_read_file(&config, CONFIG_MASTER, "/nonexistent", &error), -ENOENT));
	cr_expect(strstr(error.text, "/nonexistent") != NULL);
}

Test(config, long_lines_are_never_cut_silently)
{
	char text[1200] = "[drsfs]\nstate = /";
	memset(text + strlen(text), 'x', 1000);
	strcat(text, "\n");
	int r = file_text(CONFIG_MASTER, text);
	cr_expect(r < 0 || strlen(config.state) == 1001, "%zu", strlen(config.state));
}

Test(config, mistakes_on_the_command_line)
{
	expect_error(arguments(CONFIG_MASTER, "master /mnt --beat-intervl 1s"), "unknown option '--beat-intervl'; did you mean '--beat-interval'?");
	expect_error(arguments(CONFIG_MASTER, "master /mnt --publish-dealy=1s"), "unknown option '--publish-dealy'; did you mean '--publish-delay'?");
	expect_error(arguments(CONFIG_MASTER, "master -zq /mnt"), "unknown option '-z'");
	expect_error(arguments(CONFIG_MASTER, "master --master h /mnt"), "--master is an option of a slave");
	expect_error(arguments(CONFIG_MASTER, "master /mnt --name"), "'--name' needs a value");
	expect_error(arguments(CONFIG_MASTER, "master"), "Name a directory");
	expect_error(arguments(CONFIG_MASTER, "master /a /b"), "'/b' is too much");
	expect_error(arguments(CONFIG_SLAVE, "slave /mnt"), "--master HOST");
	expect_error(arguments(CONFIG_MASTER, "master /mnt --sync-close=perhaps"), "must be yes or no");
	expect_error(arguments(CONFIG_MASTER, "master /mnt --log-level loud"), "log-level must be error,");
	expect_error(arguments(CONFIG_MASTER, "master /mnt --multicast-ttl 256"), "from 0 to 255");
	expect_error(arguments(CONFIG_MASTER, "master /mnt --name a/b"), "must be letters");
	cr_expect(eq(int, arguments(CONFIG_MASTER, "master --help"), 1));
}

Test(config, values_too_long_for_their_place_are_refused)
{
	char value[5000];
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	static const char *const names[] = { "state", "name", "listen", "group", "interface", "mount-options", "pid-file" };
	config_default(&config, CONFIG_MASTER);
	struct config before = config;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		cr_expect(lt(int, config_set(&config, CONFIG_MASTER, names[i], value, &error), 0), "%s", names[i]);
	cr_expect(eq(str, config.name, before.name));
}
