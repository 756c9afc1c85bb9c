/* The mount's helper, and queues of calls (helper.h). */
#include "master/helper.h"

#include <signal.h>
#include <sys/prctl.h>

void calls_init(struct calls *calls)
{
	*calls = (struct calls){ .lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER };
	calls->last = &calls->first;
}

void calls_fini(struct calls *calls)
{
	pthread_cond_destroy(&calls->some);
	pthread_mutex_destroy(&calls->lock);
}

bool calls_add(struct calls *calls, struct call *call)
{
	pthread_mutex_lock(&calls->lock);
	bool open = !calls->closed;
	if (open) {
		call->next = NULL;
		*calls->last = call;
		calls->last = &call->next;
		atomic_store(&calls->any, true);
		pthread_cond_signal(&calls->some);
	}
	pthread_mutex_unlock(&calls->lock);
	return open;
}

struct call *calls_take(struct calls *calls, bool wait)
{
	pthread_mutex_lock(&calls->lock);
	while (wait && !calls->first && !calls->closed)
		pthread_cond_wait(&calls->some, &calls->lock);
	struct call *call = calls->first;
	if (call) {
		calls->first = call->next;
		if (!calls->first)
			calls->last = &calls->first;
	}
	atomic_store(&calls->any, calls->first != NULL);
	pthread_mutex_unlock(&calls->lock);
	return call;
}

void calls_close(struct calls *calls)
{
	pthread_mutex_lock(&calls->lock);
	calls->closed = true;
	pthread_cond_broadcast(&calls->some);
	pthread_mutex_unlock(&calls->lock);
}

static void *helper_main(void *user)
{
	struct helper *helper = user;
	struct call *call;
	prctl(PR_SET_NAME, "drsfs-helper");
	while ((call = calls_take(&helper->calls, true)) != NULL)
		call->run(call);
	return NULL;
}

int helper_start(struct helper *helper)
{
	sigset_t all, before;
	sigfillset(&all);
	calls_init(&helper->calls);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int ret = pthread_create(&helper->thread, NULL, helper_main, helper);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	helper->started = ret == 0;
	if (ret != 0)
		calls_fini(&helper->calls);
	return -ret;
}

void helper_stop(struct helper *helper)
{
	if (!helper->started)
		return;
	calls_close(&helper->calls);
	pthread_join(helper->thread, NULL);
	calls_fini(&helper->calls);
	helper->started = false;
}
