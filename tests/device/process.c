/* SPDX-License-Identifier: Apache-2.0 */
/* Real device processes (the UART's, the debug port's) against a fake machine. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_machine.h"

static const char *uart_path, *debugport_path;

static uint8_t in(struct fake_machine *m, unsigned port)
{
	uint64_t data = 0;
	bool changed;

	mobo_io_sync(&m->io, 0, MOBO_IO_READ, 0, port, 1, &data, &changed);
	return (uint8_t)data;
}

static void out(struct fake_machine *m, unsigned port, uint8_t val)
{
	mobo_io_post(&m->io, 0, 0, port, 1, val);
}

static bool line(struct fake_machine *m)
{
	return atomic_load(&m->ch->irq.level) & 1;
}

static bool wait_for(struct fake_machine *m, bool (*what)(struct fake_machine *m))
{
	for (unsigned i = 0; i < 5000 && !what(m); i++) {
		usleep(1000);
	}
	return what(m);
}

/* Reads exactly len bytes within 5 s. */
static void read_all(int fd, char *buf, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (size_t done = 0; done < len;) {
		ssize_t n;

		assert_int_equal(poll(&p, 1, 5000), 1);
		n = read(fd, buf + done, len - done);
		assert_true(n > 0);
		done += (size_t)n;
	}
}

static void uart(struct fake_machine *m)
{
	fake_machine_init(m, uart_path);
	fake_machine_spawn(m, false);
	fake_machine_wait_ready(m);
}

static void device_claims_and_is_sandboxed(void **state)
{
	struct fake_machine m;
	char path[64], text[4096] = "";
	FILE *f;

	fake_machine_init(&m, uart_path);
	m.config[0][0] = "base";
	m.config[0][1] = "0x2f8";
	m.config[1][0] = "irq";
	m.config[1][1] = "3";
	m.n_config = 2;
	fake_machine_spawn(&m, false);
	fake_machine_wait_ready(&m);
	assert_string_equal(m.claims->chip, "uart");
	assert_true(m.claims->restartable);
	assert_int_equal(m.claims->n_regions, 1);
	assert_int_equal(m.claims->regions[0]->base_address, 0x2f8);
	assert_int_equal(m.claims->regions[0]->len, 8);
	assert_int_equal(m.claims->lines[0]->n, 3);
	if (!getenv("MOBO_SANDBOX")) {
		assert_true(m.sandboxed);
		snprintf(path, sizeof(path), "/proc/%d/status", m.pid);
		f = fopen(path, "r");
		assert_non_null(f);
		assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
		fclose(f);
		assert_non_null(strstr(text, "Seccomp:\t2"));
		assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	}
	fake_machine_finish(&m);
}

static void bytes_travel_between_guest_and_clients(void **state)
{
	struct fake_machine m;
	char buf[16];
	int a, b;

	uart(&m);
	out(&m, 3, 3);
	out(&m, 0, 'h');
	assert_int_equal(in(&m, 5), 0x60);
	a = fake_machine_stream(&m); /* gets the scrollback */
	read_all(a, buf, 1);
	assert_int_equal(buf[0], 'h');
	b = fake_machine_stream(&m);
	out(&m, 0, 'i');
	read_all(a, buf, 1);
	assert_int_equal(buf[0], 'i');
	read_all(b, buf, 2);
	assert_memory_equal(buf, "hi", 2);
	out(&m, 1, 1); /* IER: received data */
	assert_int_equal(write(b, "x", 1), 1);
	assert_true(wait_for(&m, line));
	assert_int_equal(atomic_load(&m.page->kick.summary), 1u << 3);
	assert_int_equal(in(&m, 0), 'x');
	assert_false(line(&m));
	assert_int_equal(pread(m.fd_log, buf, sizeof(buf), 0), 2);
	assert_memory_equal(buf, "hi", 2);
	close(a);
	close(b);
	fake_machine_finish(&m);
}

static void slow_client_loses_its_oldest_bytes_and_holds_nobody_up(void **state)
{
	enum { N = 2 << 20 };
	struct fake_machine m;
	char buf[4096], last = 0;
	ssize_t n;
	int a;

	uart(&m);
	a = fake_machine_stream(&m);
	for (unsigned i = 0; i < N; i++) {
		out(&m, 0, (uint8_t)(i >> 12));
	}
	assert_int_equal(in(&m, 5), 0x60);
	assert_true(fake_machine_noted(&m, "stream-lost stream 0: a slow client lost bytes"));
	while (last != (char)((N - 1) >> 12)) {
		struct pollfd p = {.fd = a, .events = POLLIN};

		assert_int_equal(poll(&p, 1, 5000), 1);
		n = read(a, buf, sizeof(buf));
		assert_true(n > 0);
		last = buf[n - 1];
	}
	assert_int_equal(lseek(m.fd_log, 0, SEEK_END), N); /* the log lost nothing */
	close(a);
	fake_machine_finish(&m);
}

static void killed_device_comes_back_with_its_state(void **state)
{
	struct fake_machine m;
	int a;

	uart(&m);
	out(&m, 7, 0x5a);
	out(&m, 1, 1);
	a = fake_machine_stream(&m);
	assert_int_equal(write(a, "k", 1), 1);
	assert_true(wait_for(&m, line));
	fake_machine_kill(&m, SIGKILL);
	assert_true(fake_machine_wait_exit(&m) >= 0);
	assert_true(line(&m)); /* level is state */
	fake_machine_spawn(&m, true);
	assert_int_equal(in(&m, 7), 0x5a); /* waits until it is there */
	fake_machine_wait_ready(&m);
	assert_true(line(&m));
	assert_int_equal(in(&m, 0), 'k');
	assert_false(line(&m));
	assert_int_equal(atomic_load(&m.ch->dev.epoch), 2);
	close(a);
	fake_machine_finish(&m);
}

static void virtual_timer_fires_and_stops_with_the_clock(void **state)
{
	Mobo__V1__DevicePause pause = MOBO__V1__DEVICE_PAUSE__INIT;
	Mobo__V1__DeviceResume resume = MOBO__V1__DEVICE_RESUME__INIT;
	struct fake_machine m;
	int a;

	uart(&m);
	a = fake_machine_stream(&m);
	out(&m, 3, 0x83); /* 300 baud: 4 characters are 133 ms */
	out(&m, 0, 0x80);
	out(&m, 1, 0x01);
	out(&m, 3, 0x03);
	out(&m, 2, 0x81); /* trigger at 8 */
	out(&m, 1, 1);
	assert_int_equal(in(&m, 5), 0x60);
	assert_int_equal(write(a, "t", 1), 1);
	while (!(in(&m, 5) & 1)) {
		usleep(100);
	}
	assert_false(line(&m));
	mobo_clock_stop(m.page);
	assert_int_equal(fake_machine_call(&m, &pause.base, NULL), MOBO__V1__CODE__OK);
	usleep(300000);
	assert_false(line(&m));
	mobo_clock_start(m.page);
	assert_int_equal(fake_machine_call(&m, &resume.base, NULL), MOBO__V1__CODE__OK);
	assert_true(wait_for(&m, line));
	assert_int_equal(in(&m, 2), 0xcc);
	close(a);
	fake_machine_finish(&m);
}

static void machine_reads_registers_and_resets(void **state)
{
	Mobo__V1__DeviceRegsRequest regs = MOBO__V1__DEVICE_REGS_REQUEST__INIT;
	Mobo__V1__DeviceStatsRequest stats = MOBO__V1__DEVICE_STATS_REQUEST__INIT;
	Mobo__V1__DeviceReset reset = MOBO__V1__DEVICE_RESET__INIT;
	Mobo__V1__DeviceInput input = MOBO__V1__DEVICE_INPUT__INIT;
	Mobo__V1__DeviceRegs *r = NULL;
	struct fake_machine m;
	bool found = false;

	uart(&m);
	out(&m, 7, 0x77);
	assert_int_equal(in(&m, 7), 0x77);
	assert_int_equal(fake_machine_call(&m, &regs.base, (ProtobufCMessage **)&r), 0);
	for (size_t i = 0; i < r->n_registers; i++) {
		found |=
			strcmp(r->registers[i]->name, "SCR") == 0 && r->registers[i]->value == 0x77;
	}
	assert_true(found);
	mobo__v1__device_regs__free_unpacked(r, NULL);
	assert_int_equal(fake_machine_call(&m, &stats.base, NULL), 0);
	assert_int_equal(fake_machine_call(&m, &reset.base, NULL), 0);
	assert_int_equal(in(&m, 7), 0);
	assert_int_equal(fake_machine_call(&m, &input.base, NULL), MOBO__V1__CODE__UNIMPLEMENTED);
	fake_machine_finish(&m);
}

static void quit_answers_and_ends(void **state)
{
	Mobo__V1__DeviceQuit quit = MOBO__V1__DEVICE_QUIT__INIT;
	struct fake_machine m;
	int status;

	uart(&m);
	out(&m, 0, 'z');
	assert_int_equal(fake_machine_call(&m, &quit.base, NULL), MOBO__V1__CODE__OK);
	status = fake_machine_wait_exit(&m);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(atomic_load(&m.ch->dev.state), MOBO_PEER_GONE);
	assert_int_equal(in(&m, 7), 0xff);
	assert_int_equal(lseek(m.fd_log, 0, SEEK_END), 1);
	fake_machine_finish(&m);
}

static void device_outlives_its_supervisor(void **state)
{
	struct fake_machine m;

	uart(&m);
	shutdown(m.sock, SHUT_RDWR);
	close(m.sock);
	m.sock = -1;
	usleep(200000);
	out(&m, 7, 0x42);
	assert_int_equal(in(&m, 7), 0x42);
	fake_machine_finish(&m);
}

static void firmware_lines_become_notes(void **state)
{
	struct fake_machine m;
	const char *text = "Booting from Hard Disk...\n";

	fake_machine_init(&m, debugport_path);
	fake_machine_spawn(&m, false);
	fake_machine_wait_ready(&m);
	assert_int_equal(in(&m, 0), 0xe9);
	for (const char *c = text; *c; c++) {
		out(&m, 0, (uint8_t)*c);
	}
	assert_true(fake_machine_noted(&m, "firmware-log Booting from Hard Disk..."));
	fake_machine_finish(&m);
}

static void garbage_as_init_ends_the_process(void **state)
{
	struct fake_machine m;
	int status;

	fake_machine_init(&m, uart_path);
	m.n_config = 0;
	m.fd_state = memfd_create("short", 1); /* not sealed */
	fake_machine_spawn(&m, false);
	status = fake_machine_wait_exit(&m);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	fake_machine_finish(&m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_claims_and_is_sandboxed),
		cmocka_unit_test(bytes_travel_between_guest_and_clients),
		cmocka_unit_test(slow_client_loses_its_oldest_bytes_and_holds_nobody_up),
		cmocka_unit_test(killed_device_comes_back_with_its_state),
		cmocka_unit_test(virtual_timer_fires_and_stops_with_the_clock),
		cmocka_unit_test(machine_reads_registers_and_resets),
		cmocka_unit_test(quit_answers_and_ends),
		cmocka_unit_test(device_outlives_its_supervisor),
		cmocka_unit_test(firmware_lines_become_notes),
		cmocka_unit_test(garbage_as_init_ends_the_process),
	};

	if (argc < 3) {
		fprintf(stderr, "usage: %s MOBO-DEV-UART MOBO-DEV-DEBUGPORT\n", argv[0]);
		return 2;
	}
	uart_path = argv[1];
	debugport_path = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
