/* SPDX-License-Identifier: Apache-2.0 */
/* From a path to the open, locked files of a chain of images. */
#include "image_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* `name` as the file `from` means it; allocated. */
static char *resolve(const char *from, const char *name)
{
	const char *slash = strrchr(from, '/');
	char *path;

	if (strncmp(name, "file:", 5) == 0) {
		name += 5;
	}
	if (name[0] == '/' || !slash) {
		return strdup(name);
	}
	return asprintf(&path, "%.*s/%s", (int)(slash - from), from, name) < 0 ? NULL : path;
}

/* "nbd://...", "json:{...}": names that only QEMU understands. */
static bool is_remote(const char *name)
{
	const char *colon = strchr(name, ':');

	return strncmp(name, "json:", 5) == 0 || (colon && strncmp(colon, "://", 3) == 0);
}

static int open_file(const char *path, bool readonly, int *ret_fd, struct mobo_error *err)
{
	/* A FIFO or a terminal must not block us; nor is it an image, as the probe will say. */
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		int e = errno;

		return mobo_error_set(err, e, "cannot open the disk image %s: %s", path,
				      strerror(e));
	}
	*ret_fd = fd;
	return 0;
}

/* The chain comes back to a file that it has already. */
static bool seen(const struct mobo_image_chain *chain, int fd)
{
	struct stat a, b;

	for (unsigned i = 0; i < chain->n; i++) {
		if (fstat(fd, &a) == 0 && fstat(chain->fds[i], &b) == 0 && a.st_dev == b.st_dev &&
		    a.st_ino == b.st_ino) {
			return true;
		}
	}
	return false;
}

/* Append the file at `path`, which becomes the chain's. */
static int append(struct mobo_image_chain *chain, char *path, bool readonly, unsigned flags,
		  bool force_raw, struct mobo_error *err)
{
	struct mobo_image_info *info = &chain->info[chain->n];
	struct mobo_error why = {0};
	int fd = -1, r;

	if (chain->n == MOBO_IMAGE_DEPTH) {
		r = mobo_error_set(err, ELOOP, "more than %d images in a chain below %s",
				   MOBO_IMAGE_DEPTH, chain->paths[0]);
		goto failed;
	}
	r = open_file(path, readonly, &fd, err);
	if (r != 0) {
		goto failed;
	}
	if (seen(chain, fd)) {
		r = mobo_error_set(err, ELOOP, "%s is its own backing file", path);
		goto failed;
	}
	r = mobo_image_probe(fd, info, &why);
	if (r == 0 && force_raw) {
		info->format = MOBO_IMAGE_RAW;
		info->virtual_size = image_round_up(info->file_size, 512);
		info->backing_file[0] = '\0';
	} else if (r != 0 && force_raw && r == -EINVAL) {
		memset(info->backing_file, 0, sizeof(info->backing_file));
		info->format = MOBO_IMAGE_RAW;
		info->virtual_size = image_round_up(info->file_size, 512);
		r = 0;
	} else if (r != 0) {
		r = mobo_error_set(err, -r, "%s: %s", path, why.text);
	}
	if (r == 0) {
		r = mobo_image_usable(info, path, readonly, err);
	}
	if (r == 0 && !(flags & MOBO_IMAGE_NO_LOCK)) {
		r = mobo_image_lock(fd, readonly, path, err);
	}
	if (r == 0) {
		chain->fds[chain->n] = fd;
		chain->paths[chain->n++] = path;
		return 0;
	}
failed:
	if (fd >= 0) {
		close(fd);
	}
	free(path);
	return r;
}

int mobo_image_open_chain(const char *path, unsigned flags, struct mobo_image_chain *chain,
			  struct mobo_error *err)
{
	bool force_raw = flags & MOBO_IMAGE_FORCE_RAW;
	char *next = strdup(path);
	int r;

	memset(chain, 0, sizeof(*chain));
	do {
		const struct mobo_image_info *last;

		if (!next) {
			r = mobo_error_set(err, ENOMEM, "out of memory");
			break;
		}
		r = append(chain, next, chain->n > 0 || (flags & MOBO_IMAGE_READONLY), flags,
			   force_raw, err);
		if (r != 0) {
			break;
		}
		last = &chain->info[chain->n - 1];
		if (last->backing_file[0] == '\0' || (flags & MOBO_IMAGE_NO_BACKING)) {
			return 0;
		}
		if (is_remote(last->backing_file)) {
			r = mobo_error_set(
				err, ENOTSUP,
				"the backing file of %s, \"%.200s\", is not a file of this "
				"host. Make the image whole: mobo disk convert",
				chain->paths[chain->n - 1], last->backing_file);
			break;
		}
		force_raw = strcmp(last->backing_format, "raw") == 0;
		next = resolve(chain->paths[chain->n - 1], last->backing_file);
	} while (true);
	mobo_image_chain_close(chain);
	return r;
}

void mobo_image_chain_close(struct mobo_image_chain *chain)
{
	for (unsigned i = 0; i < chain->n; i++) {
		close(chain->fds[i]);
		free(chain->paths[i]);
	}
	chain->n = 0;
}
