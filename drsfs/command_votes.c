/* Votes on a terminal and in summary. Names and reasons are the slaves': nothing of them reaches the terminal as a command to it. */
#include "drsfs/command_votes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "drsfs/command.h"

/* The daemon's words for an answer, and ours. Unknown ones, of a newer daemon, are shown as they are. */
static const struct answer {
	const char *word;
	const char *now; /* while it goes on */
	const char *end; /* as a reason; NULL: none, all is well */
} answers[] = {
	{ "refused", "refused", "refused" },
	{ "unreachable", "unreachable", "not reachable" },
	{ "syncing", "syncing", "was still syncing" },
	{ "asked", "asked", "has not answered" },
	{ "prepared", "prepared", NULL },
	{ "not needed", "not needed", NULL },
};

static const struct answer *answer_of(const json_t *vote, struct answer *ret_unknown)
{
	const char *word = answer_text(vote, "answer");
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		if (strcmp(word, answers[i].word) == 0)
			return &answers[i];
	*ret_unknown = (struct answer){ word, word, word };
	return ret_unknown;
}

/* How many bytes of it go on one line of so many columns. */
static size_t fitting(const char *text, size_t columns)
{
	size_t n = 0;
	for (; text[n] && text[n] != '\n'; n++)
		if ((text[n] & 0xc0) != 0x80 && columns-- == 0)
			break;
	return n;
}

/* A check's last line says most. */
static const char *last_line(const char *text)
{
	const char *at = text;
	for (const char *end; (end = strchr(at, '\n')) && end[1];)
		at = end + 1;
	return at;
}

static void paint_vote(FILE *out, const json_t *vote, int name_columns, size_t columns)
{
	struct answer unknown;
	char line[1024];
	const char *reason = answer_text(vote, "reason");
	snprintf(line, sizeof(line), "%-*s  %s%s%s", name_columns, answer_text(vote, "name"), answer_of(vote, &unknown)->now, *reason ? ": " : "",
		 last_line(reason));
	command_print(out, line, fitting(line, columns));
	putc('\n', out);
}

/* Too many for a line each: how many there are of each kind. */
static void paint_counts(FILE *out, const json_t *votes)
{
	const char *comma = "";
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		size_t count = 0, n;
		const json_t *vote;
		json_array_foreach(votes, n, vote)
			count += strcmp(answer_text(vote, "answer"), answers[i].word) == 0;
		if (count)
			fprintf(out, "%s%zu %s", comma, count, answers[i].now);
		if (count)
			comma = ", ";
	}
	putc('\n', out);
}

void votes_paint(struct votes_painter *painter, const json_t *votes)
{
	struct winsize size = { 0 };
	size_t count = json_array_size(votes), i;
	const json_t *vote;
	int name_columns = 0;
	char *text = NULL;
	size_t bytes = 0;
	if (!isatty(fileno(painter->out)) || (count == 0 && painter->lines == 0))
		return;
	if (ioctl(fileno(painter->out), TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0)
		size = (struct winsize){ .ws_col = 80, .ws_row = 24 };
	FILE *page = open_memstream(&text, &bytes);
	if (!page)
		return;
	if (painter->lines)
		fprintf(page, "\033[%zuA\r\033[J", painter->lines);
	json_array_foreach(votes, i, vote) {
		int n = (int)strlen(answer_text(vote, "name"));
		name_columns = n > name_columns ? n : name_columns;
	}
	painter->lines = count + 2 > size.ws_row ? 1 : count;
	if (painter->lines < count)
		paint_counts(page, votes);
	else
		json_array_foreach(votes, i, vote)
			paint_vote(page, vote, name_columns, size.ws_col - 1u);
	if (fclose(page) == 0) { /* at once: nothing flickers */
		fwrite(text, 1, bytes, painter->out);
		fflush(painter->out);
	}
	free(text);
}

/* One line stays beside the names; more go below them. */
static void print_reason(FILE *out, const char *reason)
{
	size_t size = strcspn(reason, "\n");
	bool one = !reason[size] || !reason[size + 1];
	while (*reason) {
		size = strcspn(reason, "\n");
		fputs(one ? " " : "\n    ", out);
		command_print(out, reason, size);
		reason += size + (reason[size] == '\n');
	}
	putc('\n', out);
}

static bool same(const json_t *a, const json_t *b)
{
	return strcmp(answer_text(a, "answer"), answer_text(b, "answer")) == 0 && strcmp(answer_text(a, "reason"), answer_text(b, "reason")) == 0;
}

/* The vote at 'first' with all others like it, unless one of those came earlier. */
static void roll_up_one(FILE *out, const json_t *votes, size_t first, const struct answer *answer)
{
	const json_t *vote = json_array_get(votes, first), *other;
	const char *reason = answer_text(vote, "reason"), *comma = "  ";
	size_t i;
	json_array_foreach(votes, i, other) {
		if (!same(vote, other))
			continue;
		if (i < first)
			return;
		fputs(comma, out);
		command_print(out, answer_text(other, "name"), SIZE_MAX);
		comma = ", ";
	}
	putc(':', out);
	print_reason(out, *reason ? reason : answer->end);
}

void votes_roll_up(FILE *out, const json_t *votes)
{
	struct answer unknown;
	const json_t *vote;
	size_t i;
	for (int refused = 1; refused >= 0; refused--) {
		json_array_foreach(votes, i, vote) {
			const struct answer *answer = answer_of(vote, &unknown);
			if (answer->end && (answer == &answers[0]) == refused)
				roll_up_one(out, votes, i, answer);
		}
	}
}
