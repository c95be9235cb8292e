/* SPDX-License-Identifier: Apache-2.0 */
/* A hub's life: its directory, lock, tokens and sockets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hub.h"
#include "mobo/log.h"

int mobo_hub_dir(char *path, size_t len, const char *machine_or_null, struct mobo_error *err)
{
	const char *runtime = mobo_dir(MOBO_DIR_RUNTIME, err);
	int n;

	if (!runtime) {
		return err ? -err->code : -EIO;
	}
	if (machine_or_null && !wire_name_valid(machine_or_null)) {
		return mobo_error_set(err, EINVAL, "\"%s\" is not a machine's name",
				      machine_or_null);
	}
	n = machine_or_null ? snprintf(path, len, "%s/vm/%s", runtime, machine_or_null)
			    : snprintf(path, len, "%s/registry", runtime);
	if (n < 0 || (size_t)n >= len) {
		return mobo_error_set(err, ENAMETOOLONG,
				      "the runtime directory's path is too long: %s", runtime);
	}
	return 0;
}

/* mkdir -p, 0700. */
static int make_dir(const char *dir)
{
	char part[PATH_MAX];
	struct stat st;

	for (size_t i = 1; i < sizeof(part) && dir[i - 1]; i++) {
		if (dir[i] == '/' || dir[i] == '\0') {
			memcpy(part, dir, i);
			part[i] = '\0';
			if (mkdir(part, 0700) < 0 && errno != EEXIST) {
				return -errno;
			}
		}
	}
	if (stat(dir, &st) < 0) {
		return -errno;
	}
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

/* 1: taken; 0: the last owner removed the file meanwhile, try again; -errno. */
static int try_lock(struct mobo_hub *hub, const char *path)
{
	struct stat ours, there;

	hub->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (hub->lock_fd < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (flock(hub->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		return -EADDRINUSE;
	}
	if (fstat(hub->lock_fd, &ours) == 0 && stat(path, &there) == 0 &&
	    ours.st_ino == there.st_ino) {
		return 1;
	}
	close(hub->lock_fd);
	hub->lock_fd = -1;
	return 0;
}

static int lock_dir(struct mobo_hub *hub, struct mobo_error *err)
{
	char path[PATH_MAX], pid[16] = "";
	ssize_t n;
	int r = 0;

	snprintf(path, sizeof(path), "%s/lock", hub->dir);
	for (unsigned i = 0; r == 0 && i < 100; i++) {
		r = make_dir(hub->dir);
		if (r < 0) {
			return mobo_error_set(err, -r,
					      "%s must be a directory of ours with mode 0700: %s",
					      hub->dir, strerror(-r));
		}
		r = try_lock(hub, path);
	}
	if (r == -EADDRINUSE) {
		n = pread(hub->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		return mobo_error_set(err, EADDRINUSE, "%s is in use by process %s", hub->dir,
				      pid[0] ? pid : "(unknown)");
	}
	if (r <= 0) {
		r = r ? -r : EBUSY;
		return mobo_error_set(err, r, "cannot lock %s: %s", path, strerror(r));
	}
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(hub->lock_fd, 0) < 0 ||
	    pwrite(hub->lock_fd, pid, strlen(pid), 0) != (ssize_t)strlen(pid)) {
		return mobo_error_set(err, errno, "cannot write %s: %s", path, strerror(errno));
	}
	return 0;
}

/* Written beside and renamed, so that a reader never sees half of it. */
static int write_token(struct mobo_hub *hub, const char *file, char *token, struct mobo_error *err)
{
	char path[PATH_MAX], temp[PATH_MAX + 4];
	int fd, r = hub_new_token(token);

	snprintf(path, sizeof(path), "%s/%s", hub->dir, file);
	snprintf(temp, sizeof(temp), "%s.new", path);
	unlink(temp);
	fd = r < 0 ? -1 : open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || dprintf(fd, "%s\n", token) < 0 || rename(temp, path) < 0) {
		r = mobo_error_set(err, errno ? errno : EIO, "cannot write %s: %s", path,
				   strerror(errno));
	}
	if (fd >= 0) {
		close(fd);
	}
	return r;
}

static void conn_event(void *arg, unsigned event, int fd)
{
	hub_connection_lost(arg, fd);
}

/*
 * We bind and listen, libzmq gets the socket: what it binds by itself it unlinks some time after
 * closing, when the path may be the next hub's already. -errno.
 */
static int listen_at(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		return -ENAMETOOLONG;
	}
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(path); /* of a dead owner: the directory's lock is ours */
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 128) < 0) {
		r = -errno;
		if (fd >= 0) {
			close(fd);
		}
		return r;
	}
	return fd;
}

static int bind_one(struct mobo_hub *hub, struct zsock **ret, const struct zsock_options *zopt,
		    const char *file, char endpoint[128], int given_fd, struct mobo_error *err)
{
	char path[PATH_MAX];
	int fd = given_fd, r;

	snprintf(path, sizeof(path), "%s/%s", hub->dir, file);
	if (!fd) {
		fd = listen_at(path);
	}
	if (fd < 0) {
		return mobo_error_set(err, -fd, "cannot listen at %s: %s", path, strerror(-fd));
	}
	snprintf(endpoint, 128, "ipc://%.120s", path);
	r = zsock_create(ret, hub->loop, zopt);
	r = r < 0 ? r : zsock_use_fd(*ret, fd);
	if (r < 0) {
		close(fd);
	} else {
		r = zsock_bind(*ret, endpoint);
	}
	return r < 0 ? mobo_error_set(err, -r, "cannot listen at %s: %s", path, strerror(-r)) : 0;
}

static int make_sockets(struct mobo_hub *hub, struct mobo_error *err)
{
	struct zsock_options router = {.type = ZMQ_ROUTER,
				       .hwm = HUB_HWM,
				       .recv = hub_recv,
				       .monitor = conn_event,
				       .monitor_events = ZMQ_EVENT_DISCONNECTED,
				       .arg = hub};
	struct zsock_options pub = {.type = ZMQ_XPUB,
				    .hwm = HUB_PUB_HWM,
				    .recv = hub_pub_recv,
				    .arg = hub};
	struct zsock_options pull = {.type = ZMQ_PULL,
				     .hwm = HUB_LOG_HWM,
				     .recv = hub_log_recv,
				     .arg = hub};
	int r;

	snprintf(hub->fd_path, sizeof(hub->fd_path), "%s/fd", hub->dir);
	r = bind_one(hub, &hub->pub, &pub, "pub", hub->pub_endpoint, 0, err);
	r = r < 0 ? r : bind_one(hub, &hub->log, &pull, "log", hub->log_endpoint, 0, err);
	r = r < 0 ? r : tickets_create(&hub->tickets, hub->loop, hub->fd_path, err);
	/* Last: whoever reaches it finds the others there. */
	return r < 0 ? r
		     : bind_one(hub, &hub->router, &router, "rpc", hub->endpoint,
				hub->opt.listen_fd, err);
}

static void serve_list_nodes(void *arg, struct mobo_request *r, const ProtobufCMessage *body)
{
	struct mobo_hub *hub = arg;
	Mobo__V1__NodeList list = MOBO__V1__NODE_LIST__INIT;
	Mobo__V1__NodeInfo info[HUB_MEMBERS_MAX], *ptr[HUB_MEMBERS_MAX];

	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		struct hub_member *m = hub->members[i];

		if (m) {
			ptr[list.n_nodes] = &info[list.n_nodes];
			mobo__v1__node_info__init(ptr[list.n_nodes]);
			info[list.n_nodes].node = m->node;
			info[list.n_nodes].name = m->name;
			info[list.n_nodes].role = m->role;
			info[list.n_nodes].pid = (uint32_t)m->pid;
			list.n_nodes++;
		}
	}
	list.nodes = ptr;
	mobo_reply(r, &list.base);
}

static int hub_start(struct mobo_hub *hub, struct mobo_error *err)
{
	int r = lock_dir(hub, err);

	r = r < 0 ? r : write_token(hub, "operator.token", hub->operator_token, err);
	r = r < 0 ? r : write_token(hub, "observer.token", hub->observer_token, err);
	if (r == 0 && hub->opt.outside_devices) {
		r = write_token(hub, "device.token", hub->device_token, err);
	}
	if (r < 0) {
		return r;
	}
	if (wire_random(&hub->epoch, sizeof(hub->epoch)) < 0 ||
	    rpc_init(&hub->rpc, hub->loop) < 0 || hub_events_create(hub) < 0 ||
	    rpc_serve(&hub->rpc, MOBO__V1__TYPE__LIST_NODES, serve_list_nodes, hub) < 0 ||
	    rpc_serve(&hub->rpc, MOBO__V1__TYPE__SNAPSHOT, hub_serve_snapshot, hub) < 0) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	hub->beat = mobo_loop_timer(hub->loop, UINT64_MAX, hub_beat, hub);
	if (!hub->beat) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	return make_sockets(hub, err);
}

int mobo_hub_create(struct mobo_hub **ret, struct mobo_loop *loop,
		    const struct mobo_hub_options *opt, struct mobo_error *err)
{
	struct mobo_hub *hub = calloc(1, sizeof(*hub));
	int r;

	if (!hub) {
		return mobo_error_set(err, ENOMEM, "out of memory");
	}
	hub->loop = loop;
	hub->opt = *opt;
	hub->lock_fd = -1;
	hub->next_node = 1;
	hub->heartbeat_ms = opt->heartbeat_ms ? opt->heartbeat_ms : HUB_HEARTBEAT_MS;
	hub->rpc.send = hub_send;
	hub->rpc.arg = hub;
	hub->name = strdup(opt->name);
	hub->dir = strdup(opt->dir);
	r = hub->name && hub->dir ? hub_start(hub, err)
				  : mobo_error_set(err, ENOMEM, "out of memory");
	if (r < 0) {
		mobo_hub_destroy(hub);
		return r;
	}
	*ret = hub;
	return 0;
}

static void remove_files(struct mobo_hub *hub)
{
	static const char *const files[] = {
		"rpc", "pub", "log", "operator.token", "observer.token", "device.token", "lock"};
	char path[PATH_MAX];

	for (unsigned i = hub->opt.listen_fd ? 1 : 0; i < MOBO_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", hub->dir, files[i]);
		unlink(path);
	}
	rmdir(hub->dir); /* others may have put something there */
}

void mobo_hub_destroy(struct mobo_hub *hub)
{
	if (!hub) {
		return;
	}
	hub->opt.left = NULL;
	rpc_finish(&hub->rpc);
	zsock_destroy(hub->router);
	hub->router = NULL;
	for (unsigned i = 0; i < HUB_MEMBERS_MAX; i++) {
		if (hub->members[i]) {
			hub_member_drop(hub->members[i], "the hub ends");
		}
	}
	zsock_destroy(hub->pub);
	zsock_destroy(hub->log);
	tickets_destroy(hub->tickets);
	hub_events_destroy(hub);
	mobo_watch_destroy(hub->beat);
	if (hub->endpoint[0]) { /* we held the lock */
		remove_files(hub);
	}
	if (hub->lock_fd >= 0) {
		close(hub->lock_fd);
	}
	free(hub->name);
	free(hub->dir);
	free(hub);
}

/* -- The rest of bus.h that is one line -- */

const char *mobo_hub_endpoint(const struct mobo_hub *hub)
{
	return hub->endpoint;
}

const char *mobo_hub_log_endpoint(const struct mobo_hub *hub)
{
	return hub->log_endpoint;
}

void mobo_hub_serve(struct mobo_hub *hub, uint32_t type, mobo_handler *fn, void *arg)
{
	int r = rpc_serve(&hub->rpc, type, fn, arg);

	MOBO_ASSERT(r == 0); /* a few handlers at start */
}

void mobo_hub_call(struct mobo_hub *hub, uint32_t node, const ProtobufCMessage *req,
		   unsigned deadline_ms, mobo_result_cb *cb, void *arg)
{
	rpc_call(&hub->rpc, node, req, deadline_ms, cb, arg);
}

int mobo_hub_ticket(struct mobo_hub *hub, const char *const *names, const int *fds, unsigned n,
		    uint8_t ticket[MOBO_TICKET_LEN])
{
	return tickets_add(hub->tickets, names, fds, n, ticket);
}

unsigned mobo_hub_members(const struct mobo_hub *hub)
{
	return hub->n_members;
}
