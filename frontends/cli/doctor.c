/* SPDX-License-Identifier: Apache-2.0 */
/* `mobo doctor`: what this host has and lacks, and what to do about it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli.h"

struct finding {
	const char *what, *verdict; /* "ok", "note", "fail" */
	char text[256];
};

static void check_cpu(struct finding *f)
{
	bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
	bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		  __builtin_cpu_supports("bmi2");

	f->what = "cpu";
	f->verdict = v2 ? "ok" : "fail";
	snprintf(f->text, sizeof(f->text), "%s",
		 v3   ? "x86-64-v3: guests see AVX2, FMA, AES, BMI as the host has them"
		 : v2 ? "x86-64-v2: guests see SSE4.2, AES, BMI as the host has them"
		      : "the host lacks SSE4.2 or POPCNT: guests need x86-64-v2");
}

static void check_kvm(struct finding *f)
{
	f->what = "kvm";
	f->verdict = "note";
	snprintf(f->text, sizeof(f->text), "%s",
		 access("/dev/kvm", R_OK | W_OK) == 0
			 ? "/dev/kvm is there; this version runs guests in software"
			 : "no /dev/kvm: guests run in software");
}

static void check_exec_memory(struct finding *f)
{
	int fd = memfd_create("mobo-doctor", MFD_CLOEXEC);
	void *p = MAP_FAILED;

	f->what = "jit";
	if (fd >= 0 && ftruncate(fd, 4096) == 0) {
		p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	}
	f->verdict = p != MAP_FAILED ? "ok" : "fail";
	snprintf(f->text, sizeof(f->text), "%s",
		 p != MAP_FAILED ? "executable shared memory is allowed"
				 : "executable shared memory is forbidden (SELinux execmem? noexec "
				   "/dev/shm?): the CPU engine needs it");
	if (p != MAP_FAILED) {
		munmap(p, 4096);
	}
	if (fd >= 0) {
		close(fd);
	}
}

static void check_seccomp(struct finding *f)
{
	bool ok = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;

	f->what = "sandbox";
	f->verdict = ok ? "ok" : "fail";
	snprintf(f->text, sizeof(f->text), "%s",
		 ok ? "seccomp is there: device processes are sandboxed"
		    : "the kernel has no seccomp: device processes would run unconfined");
}

static void check_file(struct finding *f, const char *what, const char *path, const char *package)
{
	f->what = what;
	f->verdict = access(path, R_OK) == 0 ? "ok" : "fail";
	if (*f->verdict == 'o') {
		snprintf(f->text, sizeof(f->text), "%s", path);
	} else {
		snprintf(f->text, sizeof(f->text), "%s is missing: apt-get install %s", path,
			 package);
	}
}

static void check_dir(struct finding *f, const char *what, enum mobo_dir which)
{
	struct mobo_error err = {0};
	const char *dir = mobo_dir(which, &err);
	struct statvfs sv;

	f->what = what;
	if (!dir || statvfs(dir, &sv) < 0 || access(dir, W_OK) < 0) {
		f->verdict = "fail";
		snprintf(f->text, sizeof(f->text), "%.200s", dir ? strerror(errno) : err.text);
		return;
	}
	f->verdict = "ok";
	snprintf(f->text, sizeof(f->text), "%.160s, %llu MiB free", dir,
		 (unsigned long long)sv.f_bavail * sv.f_frsize >> 20);
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
	struct finding f[8] = {0};
	unsigned n = 0, failed = 0;
	json_object *list = json_object_new_array();

	(void)argv;
	if (argc != 1) {
		json_object_put(list);
		return cli_usage(cli);
	}
	check_cpu(&f[n++]);
	check_kvm(&f[n++]);
	check_exec_memory(&f[n++]);
	check_seccomp(&f[n++]);
	check_file(&f[n++], "firmware", "/usr/share/seabios/bios-256k.bin", "seabios");
	check_dir(&f[n++], "runtime dir", MOBO_DIR_RUNTIME);
	check_dir(&f[n++], "data dir", MOBO_DIR_DATA);
	for (unsigned i = 0; i < n; i++) {
		json_object *o = json_object_new_object();

		failed += *f[i].verdict == 'f';
		json_object_object_add(o, "check", json_object_new_string(f[i].what));
		json_object_object_add(o, "verdict", json_object_new_string(f[i].verdict));
		json_object_object_add(o, "text", json_object_new_string(f[i].text));
		json_object_array_add(list, o);
		if (!cli->json) {
			printf("%-5s %-12s %s\n", f[i].verdict, f[i].what, f[i].text);
		}
	}
	if (cli->json) {
		cli_print_json(list);
	} else {
		json_object_put(list);
	}
	return failed ? CLI_FAILED : CLI_OK;
}
