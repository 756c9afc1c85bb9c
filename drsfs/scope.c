#include "drsfs/scope.h"

#include <errno.h>
#include <string.h>

#include "drsfs/error.h"

/* The name after 'at' (NULL: the first one), or NULL at the end. */
static const char *next_name(const struct scope *s, const char *at)
{
	at = at ? at + strlen(at) + 1 : s->names;
	return at < s->names + s->size ? at : NULL;
}

bool scope_valid(const struct scope *s)
{
	if (s->size > SCOPE_BYTES_MAX || (s->size > 0 && s->names[s->size - 1] != '\0'))
		return false;
	const char *before = "";
	for (const char *name = next_name(s, NULL); name; name = next_name(s, name)) {
		if (strlen(name) >= NAME_TEXT_MAX || strcmp(before, name) >= 0)
			return false;
		before = name;
	}
	return true;
}

int scope_add(struct scope *s, const char *name)
{
	size_t size = strlen(name) + 1;
	if (size == 1 || size > NAME_TEXT_MAX)
		return -EINVAL;
	size_t at = s->size;
	for (const char *other = next_name(s, NULL); other; other = next_name(s, other)) {
		int order = strcmp(other, name);
		if (order == 0)
			return 0;
		if (order > 0) {
			at = (size_t)(other - s->names);
			break;
		}
	}
	if (s->size + size > SCOPE_BYTES_MAX)
		return -DRS_ETOOBIG;
	memmove(s->names + at + size, s->names + at, s->size - at);
	memcpy(s->names + at, name, size);
	s->size = (uint16_t)(s->size + size);
	return 0;
}

bool scope_names(const struct scope *s, const char *name)
{
	for (const char *other = next_name(s, NULL); other; other = next_name(s, other))
		if (strcmp(other, name) == 0)
			return true;
	return false;
}

static bool share_a_name(const struct scope *a, const struct scope *b)
{
	for (const char *name = next_name(a, NULL); name; name = next_name(a, name))
		if (scope_names(b, name))
			return true;
	return false;
}

bool scope_concerns(const struct scope *s, const char *server, const struct scope *clusters)
{
	return scope_is_everyone(s) || scope_names(s, server) || share_a_name(s, clusters);
}

bool scope_intersects(const struct scope *a, const struct scope *b)
{
	return scope_is_everyone(a) || scope_is_everyone(b) || share_a_name(a, b);
}

void scope_unite(struct scope *s, const struct scope *other)
{
	if (scope_is_everyone(s))
		return;
	if (scope_is_everyone(other)) {
		s->size = 0;
		return;
	}
	for (const char *name = next_name(other, NULL); name; name = next_name(other, name))
		if (scope_add(s, name) < 0) {
			s->size = 0;
			return;
		}
}
