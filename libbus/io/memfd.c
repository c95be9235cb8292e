/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory files. Sealed against a change of size, because a process that could shrink one would kill
 * every other that maps it with SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mobo/io.h"

int mobo_memfd_create(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

void *mobo_memfd_map(int fd, size_t min, bool write, size_t *size)
{
	const int need = F_SEAL_SHRINK | F_SEAL_GROW;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (seals < 0 || fstat(fd, &st) < 0) {
		return NULL;
	}
	if ((seals & need) != need || st.st_size <= 0 || (uint64_t)st.st_size < min) {
		errno = EPROTO;
		return NULL;
	}
	p = mmap(NULL, (size_t)st.st_size, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		 fd, 0);
	if (p == MAP_FAILED) {
		return NULL;
	}
	if (size) {
		*size = (size_t)st.st_size;
	}
	return p;
}
